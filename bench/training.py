"""Clips a second while learning: our training step beside a plain accelerate loop on diffusers' and transformers'
classes with AdamW, in fp32 as that loop runs by itself, and in bf16 where the processor computes in it.

Both learn the text encoder and the U-Net of the built-in model's size from the same cached latents and captions, at the
same batch. Ours also keeps its three moving averages and steps with Muon, as it does for a real run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.protocol import Ratio, interleave, measured
from flickbook.catalogue import find
from flickbook.diffusion.tokenizer import Tokenizer
from flickbook.hub.manifest import read_config
from flickbook.learn.compute.precision import fastest
from flickbook.learn.config import Stage, TrainConfig
from flickbook.learn.dataset import Films
from flickbook.learn.train import Trainer
from flickbook.world.scenes import FRAMES, sample

OURS, PLAIN, HALF = "ours", "plain loop, fp32", "plain loop, bf16"
_FILMS, _BATCH = 64, 8


@dataclass(frozen=True)
class Lesson:
    """What both learn from."""

    config: TrainConfig
    films: Films
    tokenizer: Tokenizer
    batch: int

    @classmethod
    def of(cls, directory: Path, batch: int = _BATCH, frames: int = FRAMES) -> Lesson:
        """Networks of a model's size; latents are noise, which takes as long to learn from as films do."""
        unet, text = (dict(read_config(directory / part / "config.json")) for part in ("unet", "text_encoder"))
        config = TrainConfig(
            frames_per_step=batch * frames,
            stages=(Stage("bench", 10**6, 1e-3, {frames: 1.0}),),
            unet=unet,
            text_encoder=text,
            scheduler=dict(read_config(directory / "scheduler/scheduler_config.json")),
        )
        shape = (_FILMS, FRAMES, unet["in_channels"], unet["sample_size"], unet["sample_size"])
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()
        scenes = [sample(seed, "core") for seed in range(_FILMS)]
        return cls(config, Films(latents, scenes), Tokenizer(directory / "tokenizer"), batch)


def plain(lesson: Lesson, precision: str) -> Callable[[], None]:
    """One step of the loop that accelerate's documentation shows, around the libraries' own classes."""
    from accelerate import Accelerator
    from diffusers import DDIMScheduler, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config, frames = lesson.config, lesson.config.frames_per_step // lesson.batch
    accelerator = Accelerator(mixed_precision=precision, cpu=True)
    unet = UNet3DConditionModel.from_config(config.unet)
    text = CLIPTextModel(CLIPTextConfig.from_dict(config.text_encoder))
    scheduler = DDIMScheduler.from_config(config.scheduler)
    both = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(both, lr=1e-4)
    unet, text, optimizer = accelerator.prepare(unet, text, optimizer)
    number = [0]

    def step() -> None:
        x0, words = lesson.films.batch(0, number[0], lesson.batch, frames)
        number[0] += 1
        noise, t = torch.randn_like(x0), torch.randint(0, scheduler.config.num_train_timesteps, (lesson.batch,))
        with accelerator.autocast():
            context = text(lesson.tokenizer(words)).last_hidden_state
            predicted = unet(scheduler.add_noise(x0, noise, t), t, context).sample
        loss = F.mse_loss(predicted.float(), _target(scheduler, x0, noise, t))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(both, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _target(scheduler: Any, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """v-prediction, as the built-in model learns."""
    velocity: Tensor = scheduler.get_velocity(x0, noise, t)
    return velocity


def measure(pairs: int, batch: int = _BATCH, frames: int = FRAMES, directory: Path | None = None) -> dict[str, Any]:
    """Steps in turn."""
    lesson = Lesson.of(directory or find("builtin").path(), batch, frames)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(lesson.config, lesson.films, lesson.tokenizer, Path(folder))
        # One after the other: accelerate keeps its precision for the whole process.
        found: dict[str, Any] = {"batch": batch, "frames": frames, "void": False, "turns": {}, "ratios": {}}
        for name, precision in ((PLAIN, "no"), (HALF, "bf16")):
            if name == HALF and fastest("cpu") != torch.bfloat16:
                continue
            _forget()
            calls: dict[str, Callable[[], object]] = {OURS: trainer.step, name: plain(lesson, precision)}
            turns = measured(lambda calls=calls: interleave(calls, pairs, OURS))  # type: ignore[misc]
            ratio: Ratio = turns.ratio(name, OURS)
            found["turns"][name], found["ratios"][name] = turns.to_dict(), vars(ratio)
            found["void"] = found["void"] or turns.void
    return found


def _forget() -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
