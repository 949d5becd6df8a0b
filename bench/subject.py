"""What all sides are given alike: a model directory, the noise, the words as vectors, the size and the steps.

Beside it what a side is: a name and a call that makes one film, or one step where a whole film would take too long.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.media.metrics.similarity import psnr, ssim

SOLVER = "ddim"


@dataclass(eq=False)
class Subject:
    """One film to make, or with `whole` false only its first denoising steps."""

    directory: Path
    latents: Tensor  # (1, c, f, h, w) float32
    context: Tensor  # (1, tokens, width) float32
    negative: Tensor
    steps: int
    guidance: float
    whole: bool = True
    threads: int = field(default_factory=torch.get_num_threads)

    @property
    def frames(self) -> int:
        """Of the film."""
        return int(self.latents.shape[2])

    @classmethod
    def of(
        cls, directory: Path, prompt: str, seed: int, steps: int, guidance: float, size: tuple[int, int, int]
    ) -> Subject:
        """A film of (frames, height, width) by a small model whose every part is here."""
        networks = TextToVideo.load(directory)
        context, negative = networks.embed([prompt, ""]).chunk(2)
        return cls(directory, noise([seed], networks.latent_shape(*size)), context, negative, steps, guidance)


def films_of(subject: Subject, networks: TextToVideo, prompts: Sequence[tuple[str, int]]) -> Callable[[int], None]:
    """A call that gives the subject the film of a turn, of (prompt, seed) one after the other."""
    words, negative = networks.embed([prompt for prompt, _ in prompts]).split(1), networks.embed([""])
    noises = [noise([seed], tuple(subject.latents.shape[1:])) for _, seed in prompts]  # type: ignore[arg-type]

    def begin(turn: int) -> None:
        place = turn % len(prompts)
        subject.latents, subject.context, subject.negative = noises[place], words[place], negative

    return begin


@dataclass(eq=False)
class Side:
    """One of those that are compared. `make` gives frames (f, height, width, 3) uint8, or latents (1, c, f, h, w)."""

    name: str
    make: Callable[[], Any]
    dtype: str = "fp32"
    lossy: bool = False
    prepared: float = 0.0  # seconds once before the first film: compiling, converting
    per: int = 1  # steps that one call makes, where steps are measured
    notes: list[str] = field(default_factory=list)


@contextmanager
def using(threads: int) -> Iterator[None]:
    """PyTorch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def likeness(made: Any, reference: Any) -> dict[str, float]:
    """PSNR (dB, over the film) and SSIM (of the worst frame), or of latents the relative error."""
    if isinstance(reference, Tensor):
        error = (made.float() - reference.float()).square().mean() / reference.float().square().mean()
        return {"error": float(error.sqrt())}
    worst = min(ssim(one, other) for one, other in zip(made, reference, strict=True))
    return {"psnr": min(psnr(made, reference), 99.0), "ssim": worst}


def worst(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of several likenesses the least, measure by measure."""
    return {key: (max if key == "error" else min)(each[key] for each in found) for key in found[0]}


def name_of(dtype: torch.dtype) -> str:
    """As people say it."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def bytes_of(frames: np.ndarray) -> np.ndarray:
    """Frames of 0..1 as uint8."""
    return (frames * 255).round().astype(np.uint8)


def best_threads(
    call: Callable[[], object], counts: Iterable[int], clock: Callable[[], float], turns: int = 3
) -> dict[int, float]:
    """Median seconds of a call at each count of threads, in turn; the first turn warms."""
    counts = list(counts)
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(turns + 1):
        for count in counts:
            with using(count):
                began = clock()
                call()
            if turn:
                taken[count].append(clock() - began)
    return {count: statistics.median(seconds) for count, seconds in taken.items()}


def at(threads: int, make: Callable[[], Any]) -> Callable[[], Any]:
    """The call with so many threads."""

    @functools.wraps(make)
    def call() -> Any:
        with using(threads), torch.inference_mode():
            return make()

    return call
