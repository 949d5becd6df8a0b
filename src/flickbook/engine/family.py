"""What a model family must do, and the table of them. The engine knows nothing else about a model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flickbook.catalogue import Model
from flickbook.spec import Placement, Plan

#: SHA-256 of what films begin from -> frames (n, h, w, 3) uint8 of the films' size.
Sources = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """What is loaded, from where, for which machine; `loras` pairs a file with how much of it is added."""

    model: Model
    directory: Path
    placement: Placement
    loras: tuple[tuple[Path, float], ...] = ()


class Denoised(Protocol):
    """One state of a running film: how far it is, and its estimate of the clean latents."""

    @property
    def index(self) -> int:
        """Steps done."""

    @property
    def total(self) -> int:
        """Steps of the whole run."""

    @property
    def done(self) -> bool:
        """Whether `latents` can be decoded as they are, without another call of `denoise`."""

    @property
    def latents(self) -> Any:
        """Where the process stands; the last is what `decode` is given."""

    @property
    def noisy(self) -> Any:
        """x_t as the step left it, in the layout of `x0`; None where it is not known."""

    @property
    def x0(self) -> Any:
        """The estimate of the clean latents (films, ...), in the family's own layout; None where there is none."""


class Family(Protocol):
    """A loaded model on its device."""

    #: SHA-256 of each weight file, by its path inside the model's directory.
    weights: dict[str, str]
    placement: Placement
    #: What a person should know about how the model was loaded.
    notes: list[str]

    def unread(self, prompt: str) -> str:
        """The end of a prompt that does not fit and is cut off; "" where all of it fits, or where that is not known."""

    def encode(self, plans: Sequence[Plan]) -> Any:
        """What the prompts of films of one shape mean to the network."""

    def reads_aside(self) -> bool:
        """Whether `encode` may be called beside a film that is made."""

    def denoise(
        self,
        plans: Sequence[Plan],
        embedding: Any,
        sources: Sources | None = None,
        previews: bool = False,
        start: Any = None,
    ) -> Generator[Denoised, None, None]:
        """One state after each step; films of one shape, each from the noise of its own seed. `x0` may be None unless
        `previews` are asked for. A family that can goes on from the state `start`; the others begin again."""

    def applied(self, plans: Sequence[Plan], state: Any) -> list[str]:
        """What was done for speed in the run of films that ended in `state`, in words for each; "" for nothing."""

    def lower(self, placement: Placement) -> None:
        """Go on with less memory, as a placement further down the ladder says."""

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """The share of noise (sigma, 0 to 1) in the latents after each step."""

    def show(self, preview: Any) -> np.ndarray:
        """The frames (n, h, w, 3) uint8 of one film of a state's `x0`, of the last run."""

    def sketch(self, preview: Any) -> np.ndarray:
        """What `show` shows, nearly and sooner where there is a way; for looking on while a film emerges."""

    def decode(self, latents: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        """(film, first frame, frames (n, h, w, 3) uint8), in order, `Placement.decode_frames` at once."""


@runtime_checkable
class Resumable(Family, Protocol):
    """A family whose films go on where they were interrupted."""

    def pack(self, state: Any) -> dict[str, Any]:
        """A state of `denoise` as tensors on the CPU, none sharing memory: all that the rest of the run depends on."""

    def unpack(self, plans: Sequence[Plan], tensors: Mapping[str, Any]) -> Any:
        """The state of `plans` that `pack` wrote. Raises WeightsError for one that is not of their shape."""


Loader = Callable[[Setup], Family]

#: Family name in models.toml -> where its loader is. Imported when a model is loaded, because torch is heavy.
_FAMILIES = {
    "unet": "flickbook.engine.unet.family:UNetFamily.load",
    "pipeline": "flickbook.engine.pipelines.family:PipelineFamily.load",
}


#: Family name -> the libraries beside torch that make its pixels.
LIBRARIES: dict[str, tuple[str, ...]] = {"unet": (), "pipeline": ("diffusers", "transformers")}


def loader(name: str) -> Loader:
    """The function that loads a model of this family."""
    module, _, attributes = _FAMILIES[name].partition(":")
    found: Any = import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found  # type: ignore[no-any-return]
