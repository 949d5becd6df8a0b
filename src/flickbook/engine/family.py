"""The interface of a model family, and the table of families. The engine depends on nothing else of a model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flickbook.catalogue import Model
from flickbook.media.sound.samples import Sound
from flickbook.spec import Placement, Plan

#: SHA-256 of an input file -> frames (n, h, w, 3) uint8 at the size of the film that starts from it, or the latents
#: (c, k, h, w) float16 that it continues.
Sources = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """What to load, from which directory, in which placement; `loras` are files with weights. With `latent_upsample`
    the model's latent upsampler is loaded too."""

    model: Model
    directory: Path
    placement: Placement
    loras: tuple[tuple[Path, float], ...] = ()
    latent_upsample: bool = False


class Denoised(Protocol):
    """The state of a run after one denoising step."""

    @property
    def index(self) -> int:
        """Steps completed."""

    @property
    def total(self) -> int:
        """Steps of the whole run."""

    @property
    def done(self) -> bool:
        """Whether `latents` can be decoded without calling `denoise` again."""

    @property
    def latents(self) -> Any:
        """The current latents. Those of the last state are passed to `decode`."""

    @property
    def noisy(self) -> Any:
        """x_t after the step, in the layout of `x0`; None if unknown."""

    @property
    def x0(self) -> Any:
        """The estimate of the clean latents (films, ...), in the family's own layout; None if there is none."""


class Family(Protocol):
    """A model loaded on its device."""

    #: SHA-256 of each weight file, by its path inside the model's directory.
    weights: dict[str, str]
    placement: Placement
    #: Notes for the user about how the model was loaded.
    notes: list[str]

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is too long and is cut off; "" if all of it is read or if that is unknown."""

    def encode(self, plans: Sequence[Plan]) -> Any:
        """The prompt embedding of films of one shape."""

    def can_prefetch_prompts(self) -> bool:
        """Whether `encode` may be called while a film is made."""

    def denoise(
        self,
        plans: Sequence[Plan],
        embedding: Any,
        sources: Sources | None = None,
        previews: bool = False,
        start: Any = None,
    ) -> Generator[Denoised, None, None]:
        """Yield one state after each step, for films of one shape, each starting from its own seed's noise.

        `x0` may be None unless `previews` is set. A family that can resume continues from the state `start`; the others
        begin again.
        """

    def ends(self, plans: Sequence[Plan], state: Any) -> list[np.ndarray | None]:
        """The last latents (c, k, h, w) of each film of a finished run, at most those of the model's overlap; None for
        a film without them."""

    def applied(self, plans: Sequence[Plan], state: Any) -> list[str]:
        """For each film of the run that ended in `state`, a note on the speed optimisations used; "" for none."""

    def sounds(self, plans: Sequence[Plan], state: Any) -> list[Sound | None]:
        """The sound made with each film of the run that ended in `state`, of any duration; None if there is none."""

    def lower(self, placement: Placement) -> None:
        """Continue with less memory, in the given placement, which is further down the fallbacks."""

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """The share of noise (sigma, 0 to 1) in the latents after each step."""

    def show(self, preview: Any) -> np.ndarray:
        """Decode one film of a state's `x0`, of the last run, to frames (n, h, w, 3) uint8."""

    def sketch(self, preview: Any) -> np.ndarray:
        """Decode a preview like `show`, approximately and faster where the family can; for live previews."""

    def decode(self, latents: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (film, first frame, frames (n, h, w, 3) uint8) in order, `Placement.decode_frames` at a time."""


@runtime_checkable
class Resumable(Family, Protocol):
    """A family whose interrupted runs can be resumed."""

    def pack(self, state: Any) -> dict[str, Any]:
        """A state of `denoise` as CPU tensors that share no memory. They determine the rest of the run."""

    def unpack(self, plans: Sequence[Plan], tensors: Mapping[str, Any]) -> Any:
        """The state of `plans` that `pack` wrote. Raises WeightsError if it does not match their shape."""


Loader = Callable[[Setup], Family]

#: Family name in models.toml -> its module and class. Imported when a model is loaded, because torch is slow to import.
_FAMILIES = {
    "unet": ("flickbook.engine.unet.family", "UNetFamily"),
    "pipeline": ("flickbook.engine.pipelines.family", "PipelineFamily"),
}
#: Family name -> the libraries in addition to torch that affect its pixels.
LIBRARIES: dict[str, tuple[str, ...]] = {"unet": (), "pipeline": ("diffusers", "transformers")}


def loader(name: str) -> Loader:
    """The function that loads a model of the family `name`."""
    module, family = _FAMILIES[name]
    return getattr(import_module(module), family).load  # type: ignore[no-any-return]
