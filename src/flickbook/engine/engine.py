"""One warm model: a list of Plans of one shape in, steps and frames out, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flickbook import catalogue
from flickbook.engine.family import Family, loader
from flickbook.errors import Cancelled, RequestError
from flickbook.hub.find import directory
from flickbook.spec import Phase, Placement, Plan, Step


@dataclass(frozen=True, slots=True)
class Frames:
    """Finished frames (n, height, width, 3) uint8 of one film of the batch, from frame `start` on."""

    film: int
    start: int
    frames: np.ndarray


Event = Step | Frames


class Engine:
    """A model on a device. Loading happens at the first run, and is one of its phases."""

    def __init__(self, model: catalogue.Model, placement: Placement) -> None:
        self.model, self.placement = model, placement
        self._family: Family | None = None

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each weight file. Raises RuntimeError before the first run."""
        if self._family is None:
            raise RuntimeError("no weights are loaded before the first run")
        return self._family.weights

    def note(self, prompt: str) -> str:
        """A note for people about words of the prompt that the model never learned; "" when there are none."""
        return self.model.unlearned(self._family.unknown_words(prompt)) if self._family is not None else ""

    def show(self, preview: Any) -> np.ndarray:
        """The frames (f, h, w, 3) uint8 of one film's preview (channels, frames, h, w), of this engine's last run."""
        assert self._family is not None, "a preview comes from a run"
        return np.concatenate([frames for _, _, frames in self._family.decode(preview[None])])

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """The share of noise (0 to 1) that is left after each step of a run."""
        assert self._family is not None, "known once a model is loaded"
        return self._family.noise_left(num_inference_steps)

    def run(
        self, plans: Sequence[Plan], *, previews: bool = False, cancel: Callable[[], bool] | None = None
    ) -> Iterator[Event]:
        """Make the films of `plans`, which share one shape, as one batch.

        Yields a Step after each piece of work (phases load, encode, denoise, decode) and Frames as they are decoded.
        With `previews` the denoising steps carry the estimate of the clean latents. `cancel` is asked between steps;
        when it says yes, Cancelled is raised. Raises RequestError for plans of several shapes, WeightsError for
        damaged files.
        """
        if len({plan.shape() for plan in plans}) != 1:
            raise RequestError("plans", len(plans), "must share one shape", "run each shape by itself")
        clock = _Clock(cancel)
        if self._family is None:
            self._family = loader(self.model.family)(directory(self.model), self.placement)
            yield clock.step("load", 1, 1)
        clock.restart()
        meaning = self._family.encode(plans)
        yield clock.step("encode", 1, 1)
        clock.restart()
        total, latents = plans[0].num_inference_steps, None
        for state in self._family.denoise(plans, meaning):
            latents = state.latents
            yield clock.step("denoise", state.index, total, state.x0 if previews else None)
        clock.restart()
        done, frames = 0, len(plans) * plans[0].num_frames
        for film, start, part in self._family.decode(latents):
            yield Frames(film, start, part)
            done += len(part)
            yield clock.step("decode", done, frames)


class _Clock:
    """Seconds since a phase began, and the place where a run asks whether it should stop."""

    def __init__(self, cancel: Callable[[], bool] | None) -> None:
        self._cancel, self._began = cancel, time.perf_counter()

    def restart(self) -> None:
        self._began = time.perf_counter()

    def step(self, phase: Phase, index: int, total: int, preview: object = None) -> Step:
        if self._cancel is not None and self._cancel():
            raise Cancelled
        return Step(phase, index, total, time.perf_counter() - self._began, preview)
