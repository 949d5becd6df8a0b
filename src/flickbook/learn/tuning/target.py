"""What a training needs of a model: latents of frames, embeddings of captions, and the loss of noisy latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flickbook.engine.memory.device import PRECISIONS
from flickbook.learn.compute import precision
from flickbook.learn.tuning.config import Precision, TuneConfig

#: The inputs of the denoising network that a caption decides, by name, without a batch dimension.
Condition = dict[str, Tensor]


class Batch(NamedTuple):
    """Clips of an update: latents (b, c, f, h, w), and for each clip its condition and its frames per second.

    The last `known` clips are prior examples: their loss is the distance from what the network predicts without its
    LoRA.
    """

    latents: Tensor
    conditions: Sequence[Condition]
    rates: Sequence[float]
    known: int = 0


class Losses(NamedTuple):
    """The loss of each clip of a batch, (b,) float32, and the noise levels where it was taken, (b,) in 0 to 1."""

    each: Tensor
    level: Tensor


@dataclass(frozen=True)
class Sampling:
    """How samples are made while a model is trained."""

    num_frames: int
    height: int
    width: int
    fps: float
    num_inference_steps: int
    guidance_scale: float
    seed: int


class Target(Protocol):
    """A model under training. Latents are (c, f, h, w), as the denoising network reads them."""

    #: The networks that are trained, by the names of their directories: "unet" or "transformer", "text_encoder".
    networks: dict[str, nn.Module]
    device: torch.device
    dtype: torch.dtype
    #: diffusers' class of the pipeline.
    pipeline: str
    #: Whether an update computes clips and prior examples in one pass: more memory, and fewer calls of small layers.
    joint: bool

    @property
    def multiple(self) -> int:
        """Pixels: sides of frames are multiples of this number."""

    @property
    def frame_step(self) -> int:
        """Frame counts are 1 + k * this number."""

    def encode(self, frames: np.ndarray) -> Tensor:
        """Frames (F, H, W, 3) uint8 -> latents (c, f, h, w) float32 on the CPU."""

    def embed(self, caption: str) -> Condition:
        """A caption -> the inputs it decides, on the CPU."""

    def release(self) -> None:
        """Free what `encode` and `embed` need, once everything is cached."""

    def compute_on(self, device: torch.device) -> None:
        """Compute on a device, with the weights of `units` left where they are."""

    def units(self) -> Sequence[nn.Module]:
        """The blocks of the denoising network that are recomputed or offloaded one by one."""

    def sample(self, prompt: str, how: Sampling) -> np.ndarray:
        """A film (F, H, W, 3) uint8 of the weights as they are."""

    def losses(self, batch: Batch, source: torch.Generator) -> Losses:
        """The loss of a batch; noise and noise levels are drawn from `source`, on the CPU."""


def usual_precision(device: torch.device) -> Precision:
    """What `auto` means on a device: bf16 where it computes in bfloat16, else fp16 on a GPU and fp32 on a processor."""
    if precision.fastest(device.type) == torch.bfloat16:
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def dtype_of(config: TuneConfig) -> torch.dtype:
    """The precision of a training's computation; `tune.prepare` has replaced `auto`."""
    return getattr(torch, PRECISIONS[config.precision])  # type: ignore[no-any-return]


def autocast(target: Target, config: TuneConfig) -> torch.autocast:
    """The precision of a training's computation, as a context manager."""
    return precision.autocast(target.device, dtype_of(config))


def batched(conditions: Sequence[Condition], device: torch.device) -> dict[str, Any]:
    """Stack the conditions of a batch, on a device."""
    return {name: torch.stack([each[name] for each in conditions]).to(device) for name in conditions[0]}


def stratified(count: int, source: torch.Generator) -> Tensor:
    """`count` numbers in 0 to 1, one in each of as many equal intervals, in random order."""
    place = (torch.arange(count) + torch.rand(count, generator=source)) / count
    return place[torch.randperm(count, generator=source)]
