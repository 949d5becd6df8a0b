"""Train the small net that makes the built-in model's films twice as large:

    python -m flickbook.learn.upscale OUT

The world draws every film twice: as it is, and with every length doubled, which is the truth. Of the small one the net
sees mostly what the built-in autoencoder makes of it, for that is what a generated film looks like. The painted scenes
exist in one size only, so there the film is the truth and its half the input. Started again with the same OUT, it goes
on where it was, to the same weights.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import flickbook
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig, autoencoder_keys
from flickbook.diffusion.text_to_video import FILES
from flickbook.diffusion.weights import load_weights, save_weights
from flickbook.files import replace_whole
from flickbook.hub.manifest import read_config
from flickbook.learn import checkpoint
from flickbook.learn.autoencode import loss_of, psnr
from flickbook.learn.dataset import EVALUATION_SEEDS, pixels, training_scenes
from flickbook.learn.muon import Muon, groups_of
from flickbook.learn.session import say
from flickbook.media.finishing.compact import Compact, CompactConfig
from flickbook.media.finishing.upscale import upscale
from flickbook.world import render
from flickbook.world.scenes import BACKGROUNDS, COLOURS, FRAMES, SIZE, Scene, sample
from flickbook.world.views import canvas

#: Seeds that no other part of the training draws from.
_FIRST_SEED = 80_000_000
_BUILTIN = Path(flickbook.__file__).parent / "builtin"


@dataclass(frozen=True)
class UpscaleConfig:
    """A run of the net."""

    seed: int = 0
    features: int = 32
    convolutions: int = 6
    world: dict[str, int] = field(default_factory=lambda: {"core": 140, "pair": 30, "digits": 30, "views": 40})
    frames_per_film: int = 4
    decoded: float = 0.7  # share of inputs that went through the autoencoder
    crop: int = 48  # of the input, pixels
    batch: int = 8
    steps: int = 3000
    lr: float = 2e-3
    warmup_steps: int = 100
    constant: float = 0.4  # share of the steps before the cosine to nothing begins
    ema_decay: float = 0.998

    @property
    def network(self) -> CompactConfig:
        """The net: it doubles."""
        return CompactConfig(self.features, self.convolutions, scale=2)

    def learning_rate(self, step: int) -> float:
        """Warm-up, a flat part, a cosine to nothing."""
        place = max(0.0, step / self.steps - self.constant) / max(1e-9, 1 - self.constant)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, place))) * min(1.0, (step + 1) / self.warmup_steps)


def doubled(scene: Scene) -> np.ndarray:
    """The film of a scene of objects with every length doubled: (16, 256, 256, 3) uint8."""
    rng = np.random.default_rng([scene.seed, 0xF11])  # the lot that `render` draws: the same paths
    lanes = [(0.0, 1.0)] if len(scene.actors) == 1 else [(0.0, 0.12), (0.88, 1.0)]
    if len(lanes) == 2 and rng.random() < 0.5:
        lanes.reverse()
    film = np.empty((FRAMES, 2 * SIZE, 2 * SIZE, 3), np.float32)
    film[:] = BACKGROUNDS[scene.background]
    tracks = [render.path(actor, rng, lane) for actor, lane in zip(scene.actors, lanes, strict=True)]
    for actor, track in zip(scene.actors, tracks, strict=True):
        for frame, (x, y, radius, angle) in zip(film, track, strict=True):
            left, top, alpha = render.mask(actor.shape, 2 * x, 2 * y, 2 * radius, angle)
            canvas.lay(frame, alpha, COLOURS[actor.colour], left, top)
    return canvas.finish(film)


def halved(film: np.ndarray) -> np.ndarray:
    """A film (n, h, w, 3) uint8 at half the size, each pixel the mean of four."""
    return np.stack([np.asarray(Image.fromarray(frame).reduce(2)) for frame in film])


def autoencoder(directory: Path = _BUILTIN) -> Autoencoder:
    """The autoencoder of a model's directory."""
    config = AutoencoderConfig.from_dict(read_config(directory / "vae/config.json"), directory / "vae/config.json")
    network = load_weights(lambda: Autoencoder(config), directory / FILES["vae"], rename=autoencoder_keys)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def through(network: Autoencoder, film: np.ndarray) -> np.ndarray:
    """A film (n, h, w, 3) uint8 as the autoencoder gives it back."""
    parts = [network.decode(network.encode(pixels(part)).mean) for part in np.array_split(film, -(-len(film) // 8))]
    levels = (torch.cat(parts).clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


Sample = dict[str, np.ndarray]


def seen(scene: Scene, network: Autoencoder, frames: slice = slice(None)) -> Sample:
    """Some frames of a scene: `clean` and `decoded` (n, s, s, 3), and the truth, `large` (n, 2s, 2s, 3), all uint8.

    s is 128 for objects and 64 for painted scenes, of which the film is the truth and its half what is enlarged.
    """
    film = render.render(scene)[frames]
    decoded = through(network, film)
    if scene.actors:
        return {"clean": film, "decoded": decoded, "large": doubled(scene)[frames]}
    return {"clean": halved(film), "decoded": halved(decoded), "large": film}


def bank(config: UpscaleConfig, network: Autoencoder) -> list[Sample]:
    """Some frames of each training film, evenly spread."""
    every = FRAMES // config.frames_per_film
    scenes = training_scenes(config.world, first=_FIRST_SEED)
    return [seen(scene, network, slice(i % every, None, every)) for i, scene in enumerate(scenes)]


def save_bank(films: list[Sample], path: Path) -> None:
    """Keep a bank; the file appears whole or not at all."""
    tensors = {
        f"{i}/{name}": torch.from_numpy(np.ascontiguousarray(v)) for i, f in enumerate(films) for name, v in f.items()
    }
    replace_whole(path, lambda temporary: save_file(tensors, temporary))


def load_bank(path: Path) -> list[Sample]:
    """What `save_bank` wrote."""
    films: dict[int, Sample] = {}
    for key, value in load_file(path).items():
        number, name = key.split("/")
        films.setdefault(int(number), {})[name] = value.numpy()
    return [films[i] for i in sorted(films)]


class UpscaleTrainer:
    """Network, optimizer and average; every draw follows from (seed, step)."""

    def __init__(self, config: UpscaleConfig, films: list[Sample], out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.films, self.out, self.number = config, films, out, 0
        self.network = Compact(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():  # begin as the picture with its pixels repeated
            self.network.body[-1].weight.mul_(0.1)
            self.network.body[-1].bias.zero_()
        outer = ("body.0.", f"body.{len(self.network.body) - 1}.")
        self.optimizer = Muon(groups_of(self.network, outer), betas=(0.9, 0.99), weight_decay=0.0)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}

    def batch(self) -> tuple[Tensor, Tensor]:
        """Crops of this step: (n, 3, c, c) and (n, 3, 2c, 2c) in [0, 1], turned and mirrored by lot."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.number])
        small: list[np.ndarray] = []
        large: list[np.ndarray] = []
        for _ in range(config.batch):
            film = self.films[int(rng.integers(len(self.films)))]
            source = film["decoded" if rng.random() < config.decoded else "clean"]
            frame = int(rng.integers(len(source)))
            # Of three places the one with the most to see: most of a film is flat ground.
            places = rng.integers(source.shape[1] - config.crop + 1, size=(3, 2)).tolist()
            cuts = [(slice(t, t + config.crop), slice(x, x + config.crop)) for t, x in places]
            t, x = places[int(np.argmax([source[frame][cut].std((0, 1)).sum() for cut in cuts]))]
            turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
            for kept, picture, zoom in ((small, source, 1), (large, film["large"], 2)):
                cut = picture[frame, zoom * t : zoom * (t + config.crop), zoom * x : zoom * (x + config.crop)]
                cut = np.rot90(cut, turns)
                kept.append(cut[:, ::-1] if mirrored else cut)
        return tuple((pixels(np.stack(each)) + 1) / 2 for each in (small, large))  # type: ignore[return-value]

    def step(self) -> dict[str, float]:
        """One update. Returns loss, PSNR (dB) and learning rate."""
        small, large = self.batch()
        rate = self.config.learning_rate(self.number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            made = self.network(small.contiguous(memory_format=torch.channels_last))
        made, large = 2 * made.float() - 1, 2 * large - 1
        loss = loss_of(large, made)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.number += 1
        with torch.no_grad():
            weight = 1 - min(self.config.ema_decay, self.number / (self.number + 9))
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, weight)
        decibels = psnr(large, made.detach())
        return {"step": self.number, "loss": float(loss.detach()), "psnr": decibels, "lr": rate}

    def save(self) -> Path:
        """A checkpoint that resumes to the bit."""
        tensors = {f"model/{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema/{name}": value for name, value in self.average.items()}
        tensors |= {f"adam/{name}": value for name, value in checkpoint.moments(self.optimizer).items()}
        return checkpoint.save(self.out, self.number, tensors, {"config": asdict(self.config)})

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        tensors, values = checkpoint.load(path)
        self.network.load_state_dict(checkpoint.part(tensors, "model/"))
        for name, value in checkpoint.part(tensors, "ema/").items():
            self.average[name].copy_(value)
        checkpoint.load_moments(self.optimizer, checkpoint.part(tensors, "adam/"))
        self.number = values["step"]

    def run(self, save_every: float = 120.0, log_every: int = 50) -> Iterator[dict[str, float]]:
        """Train to the end; yields a mean row every `log_every` steps and saves every `save_every` seconds."""
        saved, rows = time.monotonic(), []
        while self.number < self.config.steps:
            rows.append(self.step())
            if self.number % log_every == 0:
                yield {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"step": self.number}
                rows = []
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def averaged(self) -> Compact:
        """The net with the averaged weights."""
        network = Compact(self.config.network)
        network.load_state_dict(self.average)
        return network.eval()


@dataclass(frozen=True)
class Score:
    """How near a film comes to the truth: `psnr` in dB, and `flicker`, the mean absolute error of the change from one
    frame to the next, in levels of 0 to 255."""

    psnr: float
    flicker: float

    @classmethod
    def of(cls, films: Iterable[tuple[np.ndarray, np.ndarray]]) -> Score:
        """The mean over (made, truth), each (n, h, w, 3) uint8."""
        decibels, flicker = [], []
        for made, truth in films:
            error = made.astype(np.float32) - truth
            decibels.append(-10 * np.log10(np.maximum((error**2).mean((1, 2, 3)), 1e-3) / 255**2).mean())
            flicker.append(np.abs(np.diff(error, axis=0)).mean())
        return cls(float(np.mean(decibels)), float(np.mean(flicker)))


#: Rows of the table: what is drawn, of which group, with held-out pairs or not.
ROWS = {
    "core, seen pairs": ("core", False),
    "core, held-out pairs": ("core", True),
    "two objects": ("pair", False),
    "digits": ("digits", False),
    "painted scenes, 64 to 128": ("views", False),
}


def table(model: Path, films: int = 24) -> str:
    """Lanczos beside a net, on `films` films a row that training never saw, behind the autoencoder and as drawn."""
    network = autoencoder()
    head = "| films | input | Lanczos | net | gain | flicker, Lanczos | net |\n|---|---|---|---|---|---|---|\n"
    lines = []
    for name, (group, heldout) in ROWS.items():
        drawn = [seen(sample(EVALUATION_SEEDS + 50_000_000 + i, group, heldout), network) for i in range(films)]
        for kind in ("decoded", "clean"):
            plain, made = (
                Score.of((upscale(each[kind], 2, model=m), each["large"]) for each in drawn) for m in (None, model)
            )
            row = f"{plain.psnr:.2f} | {made.psnr:.2f} | {made.psnr - plain.psnr:+.2f} dB"
            lines.append(f"| {name} | {kind} | {row} | {plain.flicker:.3f} | {made.flicker:.3f} |")
    return head + "\n".join(lines)


def main(out: Path, config: UpscaleConfig | None = None, model: Path = _BUILTIN) -> Path:
    """Train behind `model`'s autoencoder, into the directory `out`, or go on there. Returns the weights' file."""
    config = config or UpscaleConfig()
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "bank.safetensors"
    if not kept.exists():
        save_bank(bank(config, autoencoder(model)), kept)
    trainer = UpscaleTrainer(config, load_bank(kept), out)
    newest = checkpoint.latest(out)
    if newest is not None:
        trainer.restore(newest)
    for row in trainer.run():
        say("upscale", row)
    weights = out / "model.safetensors"
    save_weights(trainer.averaged(), weights)
    return weights


if __name__ == "__main__":
    print(table(main(Path(sys.argv[1]))))
