"""Train the features of films: `python -m flickbook.learn.evaluation.train_features FOLDER [--steps 1300]`.

FOLDER keeps the rendered films at 64 x 64 pixels. Their seeds are used by nothing else. The network learns to classify
the words of the scenes (`features.HEADS`) from clean renders alone: it never sees a corrupted film, so the ranking of
corruptions in `validate` is not what it was trained for. The weights are written beside `features.py`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from flickbook.files import replace_whole
from flickbook.learn.compute.precision import autocast
from flickbook.learn.evaluation.features import FEATURES, HEADS, WEIGHTS, FilmNetwork, tensor, words_of
from flickbook.world.book.read import SIDE, small
from flickbook.world.render import render
from flickbook.world.scenes import FRAMES, Scene, sample

#: Seeds that neither training nor evaluation uses.
_SEEDS: Final = 800_000_000
#: Films of each group, with and without held-out pairs.
_COUNTS: Final = {
    ("core", False): 1300,
    ("core", True): 300,
    ("pair", False): 350,
    ("several", False): 300,
    ("digits", False): 450,
    ("views", False): 600,
    ("book", False): 1000,
    ("book", True): 200,
}
_HELD_BACK: Final = 200  # films that measure how well the network classifies
_BATCH: Final = 24
_RATE: Final = 4e-3
_IGNORED: Final = -1


def scenes(counts: dict[tuple[str, bool], int] = _COUNTS) -> list[Scene]:
    """The scenes to learn from, in an order that mixes the groups."""
    found = [sample(_SEEDS + 10_000 * k + i, *group) for k, group in enumerate(counts) for i in range(counts[group])]
    order = np.random.default_rng(3).permutation(len(found))
    return [found[place] for place in order]


def labels(listed: Sequence[Scene]) -> np.ndarray:
    """The index of each scene's word in each head, (n, heads); -1 where a head does not apply."""
    rows = [words_of(scene) for scene in listed]
    return np.array(
        [[words.index(row[name]) if name in row else _IGNORED for name, words in HEADS.items()] for row in rows]
    )


def bank(folder: Path, listed: Sequence[Scene]) -> np.ndarray:
    """The films (n, 16, 64, 64, 3) uint8 of scenes, rendered into a memory-mapped file where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"films-{len(listed)}.npy"
    if not path.exists():
        replace_whole(path, partial(_render, listed))
    return np.asarray(np.load(path, mmap_mode="r"))


def _render(listed: Sequence[Scene], path: Path) -> None:
    shape = (len(listed), FRAMES, SIDE, SIDE, 3)
    films = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for place, scene in enumerate(listed):
        films[place] = small(render(scene))
    films.flush()


def train(network: FilmNetwork, films: np.ndarray, targets: np.ndarray, steps: int) -> Iterator[tuple[int, float]]:
    """Train the network; one row a step: its number and the loss."""
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, betas=(0.9, 0.99), weight_decay=0.02)
    order = np.random.default_rng(9)
    network.train()
    for number in range(steps):
        chosen = order.integers(len(films), size=_BATCH)
        wanted = torch.from_numpy(targets[chosen])
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (number + 1) / 40) * 0.5 * (1 + math.cos(math.pi * number / steps))
        with autocast(torch.device("cpu")):
            logits = network.classify(tensor(films[chosen]))
        parts = [
            functional.cross_entropy(logits[name].float(), wanted[:, k], ignore_index=_IGNORED, reduction="sum")
            for k, name in enumerate(HEADS)
        ]
        loss = torch.stack(parts).sum() / _BATCH
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        yield number, float(loss.detach())


@torch.inference_mode()
def accuracy(network: FilmNetwork, films: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The share of right words of each head that applies to any of the films."""
    network.eval()
    parts = [network.classify(tensor(films[first : first + 20])) for first in range(0, len(films), 20)]
    found = {}
    for k, name in enumerate(HEADS):
        known = targets[:, k] >= 0
        if known.any():
            guessed = torch.cat([part[name] for part in parts]).argmax(1).numpy()
            found[name] = float((guessed == targets[:, k])[known].mean())
    return found


@torch.inference_mode()
def normalise(network: FilmNetwork, films: np.ndarray) -> None:
    """Set mean and scale so that the features of `films` have mean 0 and standard deviation 1."""
    network.eval()
    network.mean.copy_(torch.zeros(FEATURES))
    network.scale.copy_(torch.ones(FEATURES))
    raw = torch.cat([network(tensor(films[first : first + 20])) for first in range(0, len(films), 20)])
    network.mean.copy_(raw.mean(0))
    network.scale.copy_(raw.std(0).clamp(min=1e-4))


def save(network: FilmNetwork, path: Path) -> None:
    """float16, but float32 for what normalises; whole or absent. The heads are kept, to continue from."""
    state = {}
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            precise = name.startswith(("norms.", "mean", "scale"))
            state[name] = value.contiguous().float() if precise else value.contiguous().half()
    replace_whole(path, lambda temporary: save_file(state, temporary))


def main(folder: Path, steps: int, out: Path = WEIGHTS) -> Path:
    """Render what is missing, train and save; returns the file of weights."""
    began = time.monotonic()
    listed = scenes()
    films, targets = bank(folder, listed), labels(listed)
    print(f"{len(films)} films after {time.monotonic() - began:.0f} s", flush=True)
    began, losses = time.monotonic(), []
    torch.manual_seed(0)
    network = FilmNetwork()
    for number, loss in train(network, films[_HELD_BACK:], targets[_HELD_BACK:], steps):
        losses.append(loss)
        if number % 50 == 49:
            print(f"step {number + 1}: loss {np.mean(losses[-50:]):.3f}, {time.monotonic() - began:.0f} s", flush=True)
    normalise(network, films[:2000])
    for name, share in accuracy(network, films[:_HELD_BACK], targets[:_HELD_BACK]).items():
        print(f"{name}: {share:.3f}")
    save(network, out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the rendered films are kept")
    parser.add_argument("--steps", type=int, default=1300)
    options = parser.parse_args()
    print(main(options.folder, options.steps))
