"""Teach a tiny decoder what the built-in model's own answers: `python -m flickbook.learn.sketch DIR [--steps 4000]`.

It learns from what previews show: the estimates x0 after every third step of films from training prompts, and for
sharp edges also films of the world as the autoencoder's encoder reads them. What it should answer is what the
autoencoder answers.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from flickbook.catalogue import find
from flickbook.diffusion.sketch import Sketch
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.engine.films import films
from flickbook.files import replace_whole, sha256
from flickbook.hub.find import directory
from flickbook.learn.autoencode import loss_of, psnr
from flickbook.learn.compute.precision import autocast
from flickbook.learn.dataset import pixels, training_scenes
from flickbook.resolution import resolve
from flickbook.spec import Request, Step
from flickbook.world.captions import captions
from flickbook.world.render import render

WIDTHS: Final = (96, 96, 64, 32)
_BATCH: Final = 32
_RATE: Final = 2e-3
_WARMUP: Final = 100
#: How much of the averaged weights stays at each step.
_MEMORY: Final = 0.995
#: Of a film's 16 frames, which are learned from, and of the steps that make an estimate of it.
_FRAMES, _ESTIMATES = slice(1, None, 4), range(3, 25, 3)
_SHAKEN: Final = 0.1
#: Where the seeds of films begin that are only judged by.
_UNSEEN: Final = 90_000_000
_COUNTS: Final = {"core": 2, "pair": 1, "digits": 1, "views": 1, "book": 2}


def estimates(scenes: int, first: int) -> Tensor:
    """Latents (n, c, h, w) of what emerges in films of training prompts, early and late."""
    found: list[Tensor] = []

    def look(step: Step) -> None:
        if isinstance(step.preview, Tensor) and step.index in _ESTIMATES:
            found.append(step.preview[0, :, _FRAMES].transpose(0, 1).float().cpu())

    for number, scene in enumerate(training_scenes(_share(scenes), first)):
        plan = resolve(Request.of(prompt=captions(scene)[0], seed=first + number, speed="balanced"))
        list(films([plan], on_step=look, previews=True))
    return torch.cat(found)


def _share(scenes: int) -> dict[str, int]:
    return {name: max(1, count * scenes // sum(_COUNTS.values())) for name, count in _COUNTS.items()}


def readings(networks: TextToVideo, scenes: int, first: int) -> Tensor:
    """Latents (n, c, h, w) of the world's own frames."""
    kept = [
        networks.encode(torch.from_numpy(render(scene)[_FRAMES])) for scene in training_scenes(_share(scenes), first)
    ]
    return torch.cat([each.transpose(0, 1) for each in kept])


def decoded(networks: TextToVideo, latents: Tensor) -> np.ndarray:
    """What the autoencoder makes of latents (n, c, h, w): (n, height, width, 3) uint8."""
    return torch.cat(list(networks.decode(latents.transpose(0, 1)))).numpy()


class SketchTrainer:
    """Network, optimizer and average; every draw follows from (seed, step).

    `latents` (n, c, h, w), and what the autoencoder answers to them, `answers` (n, height, width, 3) uint8.
    """

    def __init__(self, latents: Tensor, answers: np.ndarray, steps: int, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.latents, self.answers, self.steps, self.seed = latents, answers, steps, seed
        self.network = Sketch(latents.shape[1], WIDTHS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), _RATE, betas=(0.9, 0.99), weight_decay=1e-4)

    def step(self, number: int) -> float:
        """One update; returns the loss."""
        chosen = np.random.default_rng([self.seed, number]).integers(len(self.latents), size=_BATCH)
        latents = self.latents[chosen].contiguous(memory_format=torch.channels_last)
        rate = _RATE * min(1.0, (number + 1) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(torch.device("cpu")):
            drawn = self.network(latents)
        loss = loss_of(pixels(self.answers[chosen]), drawn.float())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        weight = 1 - min(_MEMORY, (number + 1) / (number + 10))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, weight)
        return float(loss.detach())

    def averaged(self) -> Sketch:
        """The network with its averaged weights."""
        network = Sketch(self.latents.shape[1], WIDTHS)
        network.load_state_dict(self.average)
        return network

    def save(self, path: Path) -> None:
        """float16 with the shape in the header; whole or absent."""
        metadata = {"latent_channels": str(self.latents.shape[1]), "widths": ",".join(map(str, WIDTHS))}
        halves = {name: value.half().contiguous() for name, value in self.average.items()}
        replace_whole(path, lambda temporary: save_file(halves, temporary, metadata))


@torch.inference_mode()
def likeness(network: Sketch, latents: Tensor, answers: np.ndarray) -> float:
    """Mean PSNR (dB) of what it draws beside what the autoencoder answers (n, height, width, 3) uint8."""
    return psnr(pixels(answers), network(latents))


def main(folder: Path, steps: int, scenes: int) -> Path:
    """Train and save; returns the file, which is named by the hash of the autoencoder, as the engine looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = directory(find("builtin"))
    networks = TextToVideo.load(model).pack()
    seen = torch.cat([estimates(scenes, 0), readings(networks, 4 * scenes, 0)])
    # What a network gets slightly wrong is to be forgiven.
    some = seen[::4]
    seen = torch.cat([seen, some + _SHAKEN * torch.randn(some.shape, generator=torch.Generator().manual_seed(0))])
    unseen = torch.cat([estimates(5, _UNSEEN), readings(networks, 20, _UNSEEN)])
    print(f"{len(seen)} pictures to learn from, {len(unseen)} to judge by", flush=True)
    trainer, judged = SketchTrainer(seen, decoded(networks, seen), steps), (unseen, decoded(networks, unseen))
    for number in range(steps):
        loss = trainer.step(number)
        if number % 200 == 199:
            print(f"step {number + 1}: loss {loss:.4f}, {likeness(trainer.averaged(), *judged):.2f} dB", flush=True)
    path = folder / f"{sha256(model / FILES['vae'])[:16]}.safetensors"
    trainer.save(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to; the engine's is src/flickbook/engine/unet/sketches")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--scenes", type=int, default=100)
    options = parser.parse_args()
    print(main(options.folder, options.steps, options.scenes))
