"""Teach the judge of the picture book: `python -m flickbook.learn.book.recognise FOLDER [--steps 1500]`.

FOLDER keeps the rendered films as .npy files at 64 x 64 pixels: pages of seeds of their own, held-out pairs among them,
pairs of pages that differ in one word, places without a subject, and films of the rest of the world. Most of the first
steps learn from short clips, because many subjects in few frames teach more than few subjects in many; `--refine`
continues the last training on whole films alone, which the actions need. The weights are written beside
`world/book/read.py`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as save_state
from torch import Tensor, nn
from torch.nn import functional

from flickbook.files import replace_whole
from flickbook.learn.book.corruptions import IGNORED, NAMES, UNCLEAR, Spoiler, both, disorder, labels_of, mixed, nothing
from flickbook.learn.compute.precision import autocast
from flickbook.world import book
from flickbook.world.book.read import FEATURES, HEADS, LAYERS, WEIGHTS, small
from flickbook.world.render import render
from flickbook.world.scenes import sample

SEEN, HELD, TWINS, EMPTY, STRANGERS, UNSEEN = (600_000_000 + 10_000_000 * k for k in range(6))
_COUNTS: Final = {"seen": 5500, "held": 1500, "twins": 900, "empty": 300, "strangers": 500}
#: How a batch is composed: pages as they are, in disorder, two in one, empty places, other films, noise.
_SHARES: Final = (0.62, 0.09, 0.13, 0.05, 0.07, 0.04)
_BATCH: Final = 24
_CLIP: Final = 4
_RATE: Final = 4e-3
_LEAST, _MOST = 0.5, 0.9  # of a margin
_LOST = 0.004  # share of right answers on soft films that a margin may cost


class Network(nn.Module):
    """What `world/book/read.py` computes, with batch norms: (b, frames, 3, 64, 64) in 0..1 -> logits of all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for kind, inside, out, dilation in LAYERS:
            if kind == "space":
                self.layers.append(nn.Conv2d(inside, out, 3, 2, 1, bias=False))
            else:
                self.layers.append(
                    nn.Conv2d(inside, out, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias=False)
                )
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _, _, out, _ in LAYERS)
        self.mix = nn.Conv1d(2 * LAYERS[-1][2], FEATURES, 5, padding=2)
        self.drop = nn.Dropout(0.1)
        self.heads = nn.Linear(2 * FEATURES, int(UNCLEAR.sum()) + len(HEADS))

    def forward(self, films: Tensor) -> Tensor:
        count, frames = films.shape[:2]
        pixels = films - 0.5
        change = torch.cat([torch.zeros_like(pixels[:, :1]), pixels[:, 1:] - pixels[:, :-1]], 1)
        x = torch.cat([pixels, 2 * change], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for (kind, *_), layer, norm in zip(LAYERS, self.layers, self.norms, strict=True):
            if kind == "space":
                x = functional.relu(norm(layer(x)))
                continue
            channels, high, wide = x.shape[1:]
            line = x.permute(0, 2, 3, 1).reshape(count, frames, high * wide, channels).permute(0, 3, 1, 2)
            line = norm(layer(line)).permute(0, 2, 3, 1).reshape(count * frames, high, wide, channels)
            x = functional.relu(x + line.permute(0, 3, 1, 2))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).view(count, frames, -1).transpose(1, 2)
        mixed_frames = functional.relu(self.mix(pooled))
        found: Tensor = self.heads(self.drop(torch.cat([mixed_frames.mean(2), mixed_frames.amax(2)], 1)))
        return found

    def split(self, logits: Tensor) -> list[Tensor]:
        """The logits of each head."""
        return list(torch.split(logits, [int(n) + 1 for n in UNCLEAR], 1))

    def folded(self) -> dict[str, np.ndarray]:
        """The weights as `world/book/read.py` multiplies them, float32."""
        found: dict[str, Tensor] = {}
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            assert isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = (layer.weight * gain[:, None, None, None]).permute(2, 3, 1, 0)
            found[f"{number}.weight"] = weight.reshape(-1, weight.shape[-1])
            found[f"{number}.bias"] = norm.bias - norm.running_mean * gain
        found["mix.weight"] = self.mix.weight.permute(2, 1, 0).reshape(-1, FEATURES)
        assert self.mix.bias is not None
        found["mix.bias"] = self.mix.bias
        found["heads.weight"], found["heads.bias"] = self.heads.weight.T, self.heads.bias
        return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in found.items()}


class Bank:
    """All films to learn from, (n, 16, 64, 64, 3) uint8 in memory-mapped files of `folder`, and their labels."""

    def __init__(self, folder: Path, counts: dict[str, int] = _COUNTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.films: dict[str, np.ndarray] = {}
        self.labels: dict[str, np.ndarray] = {}
        for name, count in counts.items():
            made = _MAKERS[name](count)
            path = folder / f"{name}.npy"
            if not path.exists():
                films = np.stack([small(draw()) for draw, _ in made])
                replace_whole(path, partial(_keep, films))
            self.films[name] = np.load(path, mmap_mode="r")
            self.labels[name] = np.stack([labels for _, labels in made])

    def batch(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` films (count, 16, 64, 64, 3) uint8 and labels, composed by `_SHARES`."""
        pairs = [self._one(int(kind), rng) for kind in rng.choice(len(_SHARES), size=count, p=_SHARES)]
        return np.stack([film for film, _ in pairs]), np.stack([labels for _, labels in pairs])

    def clips(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Many short clips instead of few films, (count, `_CLIP`, 64, 64, 3): quick to learn everything but actions."""
        films, labels = [], []
        for draw in rng.random(count):
            film, words = self._page(rng) if draw < 0.9 else self._any("empty" if draw < 0.95 else "strangers", rng)
            start = int(rng.integers(16 - _CLIP + 1))
            words = words.copy()
            words[[NAMES.index("action"), NAMES.index("direction")]] = IGNORED
            films.append(film[start : start + _CLIP])
            labels.append(words)
        return np.stack(films), np.stack(labels)

    def _page(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._any("held" if rng.random() < 0.2 else "seen" if rng.random() < 0.8 else "twins", rng)

    def _any(self, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = int(rng.integers(len(self.films[name])))
        return self.films[name][chosen], self.labels[name][chosen]

    def _one(self, kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if kind == 0:
            return self._page(rng)
        if kind == 1:
            return disorder(*self._page(rng), rng)
        if kind == 2:
            films, labels = self.films["twins"], self.labels["twins"]
            first = int(rng.integers(len(films)))
            second = first ^ 1
            if rng.random() < 0.25:
                second = int(rng.integers(len(films)))
            return mixed(films[first], films[second], both(labels[first], labels[second]), rng)
        if kind == 5:
            return nothing(rng), UNCLEAR
        return self._any("empty" if kind == 3 else "strangers", rng)


def _keep(films: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, films)


Made = list[tuple[Callable[[], np.ndarray], np.ndarray]]


def _pages(first: int, count: int, heldout: bool) -> Made:
    scenes = [sample(seed, "book", heldout) for seed in range(first, first + count)]
    return [(partial(render, scene), labels_of(scene.traits)) for scene in scenes]


def _twins(count: int) -> Made:
    """Pages in pairs that differ in the action or in the subject, and in nothing else."""
    made: Made = []
    for seed in range(TWINS, TWINS + count // 2):
        rng = np.random.default_rng(seed)
        words = sample(seed, "book", seed % 5 == 0).traits
        name = "action" if rng.random() < 0.6 else "subject"
        others = [
            other
            for other in HEADS[name]
            if other != words[name] and book.fits(*({**words, name: other}[key] for key in NAMES[:3]))
        ]
        for each in (words, {**words, name: others[int(rng.integers(len(others)))]} if others else words):
            made.append((partial(book.draw, book.page(each, seed)), labels_of(each)))
    return made


def _empty(count: int) -> Made:
    made: Made = []
    for scene in (sample(seed, "book") for seed in range(EMPTY, EMPTY + count)):
        page = replace(book.page(scene.traits, scene.seed), middle=-300.0)
        labels = labels_of(scene.traits)
        for name in ("subject", "action", "direction"):
            labels[NAMES.index(name)] = UNCLEAR[NAMES.index(name)]
        made.append((partial(book.draw, page), labels))
    return made


def _strangers(count: int) -> Made:
    groups = ("core", "pair", "digits", "several", "views", "views")
    scenes = [sample(STRANGERS + k, groups[k % len(groups)]) for k in range(count)]
    return [(partial(render, scene), UNCLEAR) for scene in scenes]


_MAKERS: Final[dict[str, Callable[[int], Made]]] = {
    "seen": lambda count: _pages(SEEN, count, False),
    "held": lambda count: _pages(HELD, count, True),
    "twins": _twins,
    "empty": _empty,
    "strangers": _strangers,
}


def tensor(films: np.ndarray) -> Tensor:
    """(b, 16, 64, 64, 3) uint8 -> (b, 16, 3, 64, 64) float in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(films)).permute(0, 1, 4, 2, 3).float() / 255


def train(
    bank: Bank, steps: int, rate: float = _RATE, start: Network | None = None
) -> Iterator[tuple[int, float, Network]]:
    """One row a step: its number, the loss and the network. A training that continues from `start` sees whole films."""
    torch.manual_seed(0)
    network, spoiler = start or Network(), Spoiler()
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.02)
    generator = torch.Generator().manual_seed(1)
    network.train()
    for number in range(steps):
        rng = np.random.default_rng([7, number, steps])
        # The last quarter sees whole films only, because the batch norms of clips are others.
        early = number % 4 > 0 if number < steps // 3 else number % 2 == 0 and number < 3 * steps // 4
        short = early and start is None
        films, labels = bank.clips(rng, _BATCH * 16 // _CLIP) if short else bank.batch(rng, _BATCH)
        with torch.no_grad():
            shown, targets = spoiler(tensor(films), torch.from_numpy(labels), generator)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (number + 1) / 60) * 0.5 * (1 + math.cos(math.pi * number / steps))
        with autocast(torch.device("cpu")):
            logits = network(shown)
        parts = network.split(logits.float())
        loss = torch.stack(
            [functional.cross_entropy(part, targets[:, k], ignore_index=-1) for k, part in enumerate(parts)]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.nan_to_num().sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        yield number, float(loss.detach().nan_to_num().sum()), network


@torch.no_grad()
def margins(network: Network, bank: Bank, films: int = 600) -> list[float]:
    """The margin of each head: the confidence below which `_LOST` of the right answers on spoiled pages are."""
    network.eval()
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(5)
    sure: list[list[float]] = [[] for _ in NAMES]
    for _ in range(films // _BATCH):
        chosen = [bank._page(rng) for _ in range(_BATCH)]
        shown, targets = Spoiler(0.0)(
            tensor(np.stack([f for f, _ in chosen])), torch.from_numpy(np.stack([w for _, w in chosen])), generator
        )
        for head, part in enumerate(network.split(network(shown))):
            most, word = part.softmax(1).max(1)
            right = word == targets[:, head]
            sure[head] += most[right].tolist()
    network.train()
    return [float(np.clip(np.quantile(each or [1.0], _LOST), _LEAST, _MOST)) for each in sure]


def save(network: Network, path: Path, margin: list[float]) -> None:
    """float16, whole or absent."""
    found = {name: value.astype(np.float16) for name, value in network.folded().items()}
    found["margin"] = np.array(margin, np.float16)
    replace_whole(path, lambda temporary: save_file(found, temporary))


def main(folder: Path, steps: int, out: Path = WEIGHTS, refine: bool = False) -> Path:
    """Render what is missing, train and save; returns the file of weights. `refine` goes on from the last training."""
    bank, start, rate = Bank(folder), None, _RATE
    if refine:
        start, rate = Network(), 0.75 * _RATE
        start.load_state_dict(load_file(folder / "network.safetensors"))
    began, losses = time.monotonic(), []
    for number, loss, network in train(bank, steps, rate, start):
        losses.append(loss)
        if number % 50 == 49:
            spent = time.monotonic() - began
            print(f"step {number + 1}: loss {np.mean(losses[-50:]):.3f}, {spent:.0f} s", flush=True)
        if number % 200 == 199 or number + 1 == steps:
            save(network, out, margins(network, bank))
            state = {name: value.contiguous() for name, value in network.state_dict().items()}
            replace_whole(folder / "network.safetensors", partial(save_state, state))
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the rendered films are kept")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--refine", action="store_true", help="go on from the last training")
    options = parser.parse_args()
    print(main(options.folder, options.steps, refine=options.refine))
