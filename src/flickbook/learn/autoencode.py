"""Train the autoencoder on single frames, then give its latents unit size.

Loss: absolute, squared and gradient error. A little noise on the latents makes the decoder forgive what a diffusion
model gets slightly wrong. The first part runs on crops, which are cheap and mostly object; the rest on whole frames,
because group norms see the whole picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.learn import checkpoint
from flickbook.learn.compute.precision import autocast
from flickbook.learn.dataset import pixels, rendered, training_scenes
from flickbook.learn.muon import Muon, groups_of
from flickbook.world.render import render
from flickbook.world.scenes import FRAMES, Scene

#: Where the log-variance of a published latent is set: e**-12, so that sampling it is taking its mean.
_LOGVAR = -12.0


@dataclass(frozen=True)
class AutoencodeConfig:
    """A run of the autoencoder; steps come in two parts, crops and whole frames."""

    seed: int = 0
    world: dict[str, int] = field(default_factory=lambda: {"core": 64})  # films of each group in the bank
    frames_per_film: int = 8
    crop: int = 64
    crop_batch: int = 24
    crop_steps: int = 3000
    whole_batch: int = 8
    whole_steps: int = 2000
    lr: float = 1e-3
    lr_end: float = 1e-5
    warmup_steps: int = 100
    constant: float = 0.5  # share of the steps before the cosine to `lr_end` begins
    latent_noise: float = 0.04  # of each channel's spread
    ema_decay: float = 0.998
    refine: str = "none"  # what of an `--init` autoencoder is trained further: none, decoder (its latents stay), whole
    network: dict[str, Any] = field(default_factory=dict)

    @property
    def every(self) -> int:
        """The step between the frames of a film that are in the bank."""
        return FRAMES // self.frames_per_film

    @property
    def steps(self) -> int:
        """Both parts together."""
        return self.crop_steps + self.whole_steps

    def learning_rate(self, step: int) -> float:
        """Warm-up, a flat part, a cosine."""
        place = max(0.0, step / self.steps - self.constant) / max(1e-9, 1 - self.constant)
        rate = self.lr_end + (self.lr - self.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, place)))
        return rate * min(1.0, (step + 1) / max(1, self.warmup_steps))


def frame_bank(config: AutoencodeConfig, workers: int = 0) -> np.ndarray:
    """(n, h, w, 3) uint8: evenly spread frames of every film of the bank, which `workers` processes render."""
    every = config.every
    # Copied, because a film of another process keeps a file open.
    films = rendered(list(training_scenes(config.world)), workers=workers)
    return np.concatenate([film[0].numpy()[i % every :: every].copy() for i, film in enumerate(films)])


def loss_of(images: Tensor, decoded: Tensor) -> Tensor:
    """Absolute + squared + gradient error of (n, 3, h, w) in [-1, 1]."""
    error = decoded - images
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + 4 * error.pow(2).mean() + 0.5 * edges


def psnr(images: Tensor, decoded: Tensor) -> float:
    """Mean over images (n, 3, h, w) in [-1, 1] of the peak signal-to-noise ratio, dB."""
    error = (decoded.clamp(-1, 1) - images).pow(2).flatten(1).mean(1).clamp_min(1e-10)
    return float((-10 * torch.log10(error / 4)).mean())


class AutoencoderTrainer:
    """Network, optimizer and average; every draw follows from (seed, step).

    With the weights `start` training goes on from them; with `refine = "decoder"` the encoder keeps its weights.
    """

    def __init__(
        self, config: AutoencodeConfig, bank: np.ndarray, out: Path, start: dict[str, Tensor] | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.bank, self.out, self.number = config, bank, out, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Autoencoder(AutoencoderConfig.from_dict(config.network)).to(self.device)
        if start is not None:
            self.network.load_state_dict(start)
            if config.refine == "decoder":
                # The latents are the language between this network and the diffusion model.
                for part in (self.network.encoder, self.network.quant_conv):
                    if part is not None:
                        part.requires_grad_(False)
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ends = ("encoder.conv_in", "decoder.conv_out")
        self.optimizer = Muon(groups_of(self.network, ends), betas=(0.9, 0.99), weight_decay=1e-4)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}

    def batch(self) -> Tensor:
        """Frames of this step (n, 3, h, w), half of them mirrored; crops in the first part."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.number])
        whole = self.number >= config.crop_steps
        chosen = self.bank[rng.integers(len(self.bank), size=config.whole_batch if whole else config.crop_batch)]
        if rng.random() < 0.5:
            chosen = chosen[:, :, ::-1]
        if not whole:
            top, left = rng.integers(chosen.shape[1] - config.crop + 1, size=2)
            chosen = chosen[:, top : top + config.crop, left : left + config.crop]
        return pixels(np.ascontiguousarray(chosen)).to(self.device)

    def step(self) -> dict[str, float]:
        """One update. Returns loss, PSNR (dB) and learning rate."""
        images, rate = self.batch(), self.config.learning_rate(self.number)
        noise = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(self.device):
            latents = self.network.encode(images).mean
            spread = latents.detach().float().std((0, 2, 3), keepdim=True) * self.config.latent_noise
            shaken = latents + spread * torch.randn(latents.shape, generator=noise).to(self.device)
            decoded = self.network.decode(shaken)
        loss = loss_of(images, decoded.float()) + 1e-5 * latents.float().pow(2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.number += 1
        with torch.no_grad():
            weight = 1 - min(self.config.ema_decay, self.number / (self.number + 9))
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, weight)
        decibels = psnr(images, decoded.detach().float())
        return {"step": self.number, "loss": float(loss.detach()), "psnr": decibels, "lr": rate}

    def save(self) -> Path:
        """A checkpoint that resumes to the bit."""
        tensors = {f"model/{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema/{name}": value for name, value in self.average.items()}
        tensors |= {f"adam/{name}": value for name, value in checkpoint.moments(self.optimizer).items()}
        return checkpoint.save(self.out, self.number, tensors, {"config": vars(self.config)})

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        tensors, values = checkpoint.load(path)
        self.network.load_state_dict(checkpoint.part(tensors, "model/"))
        for name, value in checkpoint.part(tensors, "ema/").items():
            self.average[name].copy_(value)
        checkpoint.load_moments(self.optimizer, checkpoint.part(tensors, "adam/"))
        self.number = values["step"]

    def run(self, save_every: float = 300.0, log_every: int = 50) -> Iterator[dict[str, float]]:
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


@torch.no_grad()
def latent_statistics(network: Autoencoder, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Mean and spread of each latent channel over the films of `scenes`."""
    device = next(network.parameters()).device
    latents = torch.cat([network.encode(pixels(render(scene)).to(device)).mean for scene in scenes])
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))


@torch.no_grad()
def normalise(network: Autoencoder, mean: Tensor, spread: Tensor) -> None:
    """Fold (z - mean) / spread into the 1x1 convolutions around the latents, in place.

    The stock pipeline knows one scalar for all channels, so the per-channel part lives in the network.
    """
    count = len(mean)
    before, after = network.quant_conv, network.post_quant_conv
    assert before is not None and before.bias is not None
    assert after is not None and after.bias is not None
    before.weight[:count] /= spread[:, None, None, None]
    before.bias[:count] = (before.bias[:count] - mean) / spread
    before.weight[count:], before.bias[count:] = 0.0, _LOGVAR
    after.bias += (after.weight[:, :, 0, 0] @ mean[:, None])[:, 0]
    after.weight *= spread[None, :, None, None]
