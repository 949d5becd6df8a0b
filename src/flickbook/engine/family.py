"""What a model family must do, and the table of them. The engine knows nothing else about a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flickbook.spec import Placement, Plan


class Denoised(Protocol):
    """One state of a running film: how far it is, and its estimate of the clean latents."""

    @property
    def index(self) -> int:
        """Steps done."""

    @property
    def latents(self) -> Any:
        """Where the process stands (films, channels, frames, h, w)."""

    @property
    def x0(self) -> Any:
        """The estimate of the clean latents (films, channels, frames, h, w); None before the first step."""


class Family(Protocol):
    """A loaded model on its device."""

    #: SHA-256 of each weight file, by its path inside the model's directory.
    weights: dict[str, str]

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that the model never met in training; empty where that is not known."""

    def encode(self, plans: Sequence[Plan]) -> Any:
        """What the prompts of films of one shape mean to the network."""

    def denoise(self, plans: Sequence[Plan], meaning: Any) -> Iterator[Denoised]:
        """One state after each step; films of one shape, each from the noise of its own seed."""

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """The share of noise (sigma, 0 to 1) in the latents after each step."""

    def decode(self, latents: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        """(film, first frame, frames (n, h, w, 3) uint8), in order, `Placement.decode_frames` at once."""


Loader = Callable[[Path, Placement], Family]

#: Family name in models.toml -> where its loader is. Imported when a model is loaded, because torch is heavy.
_FAMILIES = {"unet": "flickbook.engine.unet_family:UNetFamily.load"}


def loader(name: str) -> Loader:
    """The function that loads a model of this family from its directory."""
    module, _, attributes = _FAMILIES[name].partition(":")
    found: Any = import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found  # type: ignore[no-any-return]
