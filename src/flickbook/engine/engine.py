"""The engine: one loaded model that runs Plans of one shape and yields Steps and frames."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flickbook import catalogue
from flickbook.engine.family import LIBRARIES, Denoised, Family, Setup, Sources, loader
from flickbook.engine.memory import fallback
from flickbook.errors import Cancelled, RequestError, escaped
from flickbook.hub.find import directory
from flickbook.media.sound.samples import Sound
from flickbook.spec import Phase, Placement, Plan, Step

if TYPE_CHECKING:
    from flickbook.engine.checkpoint import Checkpointer

_SHOWN = 40  # characters of the ignored end of a prompt that a note quotes


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames (n, height, width, 3) uint8 of film number `film` of the batch, beginning at frame `start`."""

    film: int
    start: int
    frames: np.ndarray


Event = Step | Frames


class Engine:
    """A model on a device. The first run loads it and reports that as its phase "load"."""

    def __init__(
        self,
        model: catalogue.Model,
        placement: Placement,
        loras: Sequence[tuple[Path, float]] = (),
        latent_upsample: bool = False,
    ) -> None:
        self.model, self.placement, self.loras, self._upsample = model, placement, tuple(loras), latent_upsample
        self._family: Family | None = None
        #: For each film of the last run, a note on the speed optimisations used; "" for none.
        self.applied: list[str] = []
        #: The sound that the model made with each film of the last whole run; None if it makes none.
        self.sounds: list[Sound | None] = []
        #: For each film of the last run, its last latents (c, k, h, w); None without them.
        self.ends: list[np.ndarray | None] = []

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each weight file. Raises RuntimeError before the first run."""
        if self._family is None:
            raise RuntimeError("no weights are loaded before the first run")
        return self._family.weights

    @property
    def libraries(self) -> tuple[str, ...]:
        """Libraries that can affect this engine's pixels, in addition to those that every Recipe lists."""
        more = ("peft",) if self.loras else ()
        return (*LIBRARIES[self.model.family], *more, *(("torchao",) if self.placement.quantize else ()))

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """Notes for the user: how the model was loaded, and which parts of a film's prompts it ignores or never
        learned."""
        if self._family is None:
            return []
        rungs = [f"out of memory; continued with {rung}" for rung in self.placement.rungs]
        cut = [_cut(self.model.name, rest) for each in prompts if (rest := self._family.unread(each))]
        return [*self._family.notes, *rungs, *filter(None, [self.model.unlearned(" ".join(prompts), self.loras)]), *cut]

    def loaded(self) -> Family:
        """Load the model if needed and return it. Raises WeightsError, HubError."""
        while self._family is None:
            try:
                setup = Setup(self.model, directory(self.model), self.placement, self.loras, self._upsample)
                self._family = loader(self.model.family)(setup)
            except (RuntimeError, MemoryError) as error:
                self._check(error, "denoise")
            if self._family is None:
                self._lower("denoise")
        return self._family

    def read(self, plan: Plan) -> None:
        """Encode the prompts of a later film while another one is made, if the family supports it."""
        if self._family is not None and self._family.can_prefetch_prompts():
            self._family.encode([plan])

    def with_fallbacks(self, work: Callable[[], np.ndarray], phase: fallback.Climbing = "denoise") -> np.ndarray:
        """Return the result of `work`; when memory runs out, apply the next fallback and try again, if one is left."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                self._check(error, phase)
            self._lower(phase)

    def run(
        self,
        plans: Sequence[Plan],
        *,
        sources: Sources | None = None,
        previews: bool = False,
        cancel: Callable[[], bool] | None = None,
        checkpointer: Checkpointer | None = None,
        until: float = 1.0,
    ) -> Generator[Event, None, None]:
        """Make the films of `plans`, which share one shape, as one batch; `sources` holds the frames they start from.

        Yields a Step after each piece of work (phases load, encode, denoise, decode) and Frames as they are decoded.
        With `previews` the denoising Steps carry the estimate of the clean latents. `cancel` is called between steps;
        if it returns True, Cancelled is raised.

        With a `checkpointer` the run resumes from the state it finds, if the family can; the first denoising Step then
        reports where. The state is saved after steps, before the run stops for any reason, and before decoding.
        With `until` below 1 the run ends after that share of its steps, at least one, and decodes nothing.

        Raises RequestError for plans of several shapes and for `until`, WeightsError for damaged files.
        """
        if len({plan.shape() for plan in plans}) != 1:
            raise RequestError("plans", len(plans), "must all have the same shape", "run each shape separately")
        if not 0 < until <= 1:
            raise RequestError("until", until, "must be above 0 and at most 1", "ask for 0.4, or for 1, the whole film")
        clock = _Clock(cancel)
        if self._family is None:
            self.loaded()
            yield clock.step("load", 1, 1)
        try:
            self.ends = []
            state = yield from self._stepped(plans, sources, previews, checkpointer, until, clock)
            if until < 1:
                return
            latents = state.latents
            # A pipeline decodes inside its call, and may have changed the placement there.
            self.placement = self.loaded().placement
            clock.restart()
            done, frames = 0, len(plans) * plans[0].num_frames
            for part in self._decoded(latents):
                yield part
                done += len(part.frames)
                yield clock.step("decode", done, frames)
            self.ends = self.loaded().ends(plans, state)
        except BaseException:  # also GeneratorExit and KeyboardInterrupt: a completed step is never lost
            if checkpointer is not None:
                checkpointer.flush()
            raise

    def _stepped(
        self,
        plans: Sequence[Plan],
        sources: Sources | None,
        previews: bool,
        checkpointer: Checkpointer | None,
        until: float,
        clock: _Clock,
    ) -> Generator[Step, None, Any]:
        """Yield the Steps up to the share `until` of the run and return the state reached."""
        state = None if checkpointer is None else self._found(plans, checkpointer)
        ended = state is not None and (state.done if until == 1 else state.index >= _stop(until, state.total))
        clock.restart()
        embedding = None
        if not ended:
            embedding = self.loaded().encode(plans)
            yield clock.step("encode", 1, 1)
            clock.restart()
        if state is not None:
            yield clock.denoised(state, previews)
        if not ended:
            with closing(self._denoised(plans, embedding, sources, previews, state)) as states:
                for state in states:
                    if checkpointer is not None:
                        checkpointer.save(state)
                    yield clock.denoised(state, previews)
                    # Not ended by hand at until=1: a pipeline makes its frames after its last step.
                    if until < 1 and state.index >= _stop(until, state.total):
                        break
        if checkpointer is not None:
            checkpointer.flush()
        assert state is not None, "there is a step at least"
        self.applied = self.loaded().applied(plans, state)
        self.sounds = self.loaded().sounds(plans, state) if until == 1 else []
        return state

    def _found(self, plans: Sequence[Plan], checkpointer: Checkpointer) -> Any | None:
        """The state to resume from. Applies the fallbacks that its attempt had used, so that the bits are the same."""
        state = checkpointer.begin(plans, self.model.family, self.loaded())
        if state is not None and checkpointer.resumed_from is not None:
            rungs, saved = self.placement.rungs, checkpointer.resumed_from.placement
            if len(saved.rungs) > len(rungs) and saved.rungs[: len(rungs)] == rungs:
                self.placement = saved.model_copy(update={"batch": self.placement.batch})
                self.loaded().lower(self.placement)
        return state

    def _denoised(
        self, plans: Sequence[Plan], embedding: Any, sources: Sources | None, previews: bool, last: Any = None
    ) -> Generator[Denoised, None, None]:
        """The states of a run. When memory runs out, steps down the fallbacks and continues from the last state."""
        assert self._family is not None
        while True:
            try:
                # Closed at once when a run is cancelled: a pipeline's thread must not outlive it.
                with closing(self._family.denoise(plans, embedding, sources, previews, last)) as states:
                    for last in states:
                        yield last
                return
            except (RuntimeError, MemoryError) as error:
                self._check(error, "denoise")
            self._lower("denoise")

    def _decoded(self, latents: Any) -> Iterator[Frames]:
        """The frames of all films. The latents are kept until the end, so that a fallback can decode them again."""
        assert self._family is not None
        done: dict[int, int] = {}
        while True:
            try:
                for film, start, frames in self._family.decode(latents):
                    new = frames[max(0, done.get(film, 0) - start) :]
                    if len(new):
                        begins = start + len(frames) - len(new)
                        done[film] = begins + len(new)
                        yield Frames(film, begins, new)
                return
            except (RuntimeError, MemoryError) as error:
                self._check(error, "decode")
            self._lower("decode")

    def _check(self, error: Exception, phase: fallback.Climbing) -> None:
        """Raise `error` again if it is not about memory or if no fallback is left."""
        if not fallback.ran_out(error) or fallback.lower(self.placement, phase, self.model.family) is None:
            raise error

    def _lower(self, phase: fallback.Climbing) -> None:
        """Apply the next fallback. Called after the failed attempt's stack frames, and what they hold, are released."""
        lower = fallback.lower(self.placement, phase, self.model.family)
        assert lower is not None, "checked before"
        gc.collect()
        if self.placement.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
        self.placement = lower
        if self._family is not None:
            self._family.lower(lower)


def _stop(until: float, total: int) -> int:
    """The number of the step after which a run with this `until` ends; at least 1."""
    # Floating point: 0.28 * 25 is slightly more than 7.
    return max(1, math.ceil(until * total - 1e-9))


def _cut(name: str, rest: str) -> str:
    """A note about the end of a prompt that the model's text encoder does not read."""
    shown = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN]}…"
    return (
        f'the prompt is longer than the limit of {name}: it is cut off before "{escaped(shown)}", '
        "so later words have no effect"
    )


class _Clock:
    """Seconds since the current phase began. Making a Step also checks for cancellation."""

    def __init__(self, cancel: Callable[[], bool] | None) -> None:
        self._cancel, self._began = cancel, time.perf_counter()

    def restart(self) -> None:
        self._began = time.perf_counter()

    def step(self, phase: Phase, index: int, total: int, preview: object = None) -> Step:
        if self._cancel is not None and self._cancel():
            raise Cancelled
        return Step(phase, index, total, time.perf_counter() - self._began, preview)

    def denoised(self, state: Denoised, previews: bool) -> Step:
        """The Step of a denoising state; with `previews` it carries the x0 estimate and x_t."""
        step = self.step("denoise", state.index, state.total, state.x0 if previews else None)
        return replace(step, noisy=state.noisy) if previews else step
