"""One warm model: a list of Plans of one shape in, steps and frames out, as they come."""

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
from flickbook.spec import Phase, Placement, Plan, Step

if TYPE_CHECKING:
    from flickbook.engine.checkpoint import Checkpointer

_SHOWN = 40  # characters of a prompt's end that a note quotes


@dataclass(frozen=True, slots=True)
class Frames:
    """Finished frames (n, height, width, 3) uint8 of one film of the batch, from frame `start` on."""

    film: int
    start: int
    frames: np.ndarray


Event = Step | Frames


class Engine:
    """A model on a device. Loading happens at the first run, and is one of its phases."""

    def __init__(self, model: catalogue.Model, placement: Placement, loras: Sequence[tuple[Path, float]] = ()) -> None:
        self.model, self.placement, self.loras = model, placement, tuple(loras)
        self._family: Family | None = None
        #: What was done for speed in the last run, in words for each of its films; "" for nothing.
        self.applied: list[str] = []

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each weight file. Raises RuntimeError before the first run."""
        if self._family is None:
            raise RuntimeError("no weights are loaded before the first run")
        return self._family.weights

    @property
    def libraries(self) -> tuple[str, ...]:
        """Libraries that can change a pixel of this engine's films, beside those that always can."""
        more = ("peft",) if self.loras else ()
        return (*LIBRARIES[self.model.family], *more, *(("torchao",) if self.placement.quantize else ()))

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """What people should know: how the model was loaded, and what of a film's prompts it never learned or reads."""
        if self._family is None:
            return []
        rungs = [f"memory ran out; went on with {rung}" for rung in self.placement.rungs]
        cut = [_cut(self.model.name, rest) for each in prompts if (rest := self._family.unread(each))]
        return [*self._family.notes, *rungs, *filter(None, [self.model.unlearned(" ".join(prompts))]), *cut]

    def show(self, preview: Any) -> np.ndarray:
        """The frames (n, h, w, 3) uint8 of one film's preview, of this engine's last run."""
        assert self._family is not None, "a preview comes from a run"
        return self._family.show(preview)

    def sketch(self, preview: Any) -> np.ndarray:
        """What `show` shows, nearly and sooner where there is a way; for looking on while a film emerges."""
        assert self._family is not None, "a preview comes from a run"
        return self._family.sketch(preview)

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """The share of noise (0 to 1) that is left after each step of a run."""
        assert self._family is not None, "known once a model is loaded"
        return self._family.noise_left(num_inference_steps)

    def loaded(self) -> Family:
        """The model, loaded now if it was not. Raises WeightsError, HubError."""
        place = directory(self.model)
        while self._family is None:
            try:
                setup = Setup(self.model, place, self.placement, self.loras)
                self._family = loader(self.model.family)(setup)
            except (RuntimeError, MemoryError) as error:
                self._check(error, "denoise")
            if self._family is None:
                self._lower("denoise")
        return self._family

    def read(self, plan: Plan) -> None:
        """Read the prompts of a film that comes later, beside one that is made, where that can be done."""
        if self._family is not None and self._family.reads_aside():
            self._family.encode([plan])

    def enduring(self, work: Callable[[], np.ndarray], phase: fallback.Climbing = "denoise") -> np.ndarray:
        """What `work` returns; where memory runs out, it is done again with less of it as often as that is possible."""
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
        """Make the films of `plans`, which share one shape, as one batch; `sources` has what they begin from.

        Yields a Step after each piece of work (phases load, encode, denoise, decode) and Frames as they are decoded.
        With `previews` the denoising steps carry the estimate of the clean latents. `cancel` is asked between steps;
        when it says yes, Cancelled is raised.

        With a `keeper` the run goes on from the state that it finds, if the family can; the first Step of the denoising
        then tells from where. It keeps the state after steps, before a stop for whatever reason, and before decoding.
        With `until` below 1 the run ends after that share of its steps, at least one, and nothing is decoded.

        Raises RequestError for plans of several shapes and for `until`, WeightsError for damaged files.
        """
        if len({plan.shape() for plan in plans}) != 1:
            raise RequestError("plans", len(plans), "must share one shape", "run each shape by itself")
        if not 0 < until <= 1:
            raise RequestError("until", until, "must be above 0 and at most 1", "ask for 0.4, or for 1, the whole film")
        clock = _Clock(cancel)
        if self._family is None:
            self.loaded()
            yield clock.step("load", 1, 1)
        try:
            latents = yield from self._stepped(plans, sources, previews, checkpointer, until, clock)
            if until < 1:
                return
            # A pipeline decodes within its call, and may have given something up there.
            self.placement = self.loaded().placement
            clock.restart()
            done, frames = 0, len(plans) * plans[0].num_frames
            for part in self._decoded(latents):
                yield part
                done += len(part.frames)
                yield clock.step("decode", done, frames)
        except BaseException:  # also GeneratorExit and KeyboardInterrupt: whatever ends it, no whole step is lost
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
        """The Steps up to the denoised latents, which are returned, or up to the share `until` of them."""
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
                    # A pipeline makes its frames after its last step, and must be let.
                    if until < 1 and state.index >= _stop(until, state.total):
                        break
        if checkpointer is not None:
            checkpointer.flush()
        assert state is not None, "there is a step at least"
        self.applied = self.loaded().applied(plans, state)
        return state.latents

    def _found(self, plans: Sequence[Plan], checkpointer: Checkpointer) -> Any | None:
        """The state to go on from, with what had been given up by then: it is given up now, for the same bits."""
        state = checkpointer.begin(plans, self.model.family, self.loaded())
        if state is not None and checkpointer.went_on is not None:
            own, then = self.placement.rungs, checkpointer.went_on.placement
            if len(then.rungs) > len(own) and then.rungs[: len(own)] == own:
                self.placement = then.model_copy(update={"batch": self.placement.batch})
                self.loaded().lower(self.placement)
        return state

    def _denoised(
        self, plans: Sequence[Plan], embedding: Any, sources: Sources | None, previews: bool, last: Any = None
    ) -> Generator[Denoised, None, None]:
        """The states of a run, which climbs down the ladder where memory runs out and goes on from the last one."""
        assert self._family is not None
        while True:
            try:
                # Closed at once where a run is cancelled: a pipeline's thread must not live on.
                with closing(self._family.denoise(plans, embedding, sources, previews, last)) as states:
                    for last in states:
                        yield last
                return
            except (RuntimeError, MemoryError) as error:
                self._check(error, "denoise")
            self._lower("denoise")

    def _decoded(self, latents: Any) -> Iterator[Frames]:
        """The frames of all films; the denoised latents are kept until the last of them."""
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
        """Raise `error` again where it is not about memory, or nothing is left to give up."""
        if not fallback.ran_out(error) or fallback.lower(self.placement, phase, self.model.family) is None:
            raise error

    def _lower(self, phase: fallback.Climbing) -> None:
        """Take the next rung; called once the failed attempt's frames, and what they hold, are gone."""
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
    """The number of the step after which a run ends that is made up to the share `until`; at least 1."""
    # 0.28 of 25 is a hair more than 7.
    return max(1, math.ceil(until * total - 1e-9))


def _cut(name: str, rest: str) -> str:
    """A note about the end of a prompt that is cut off."""
    shown = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN]}…"
    return (
        f'the prompt is longer than {name} reads: it is cut off before "{escaped(shown)}", '
        "so prompts that differ only from there on make the same film"
    )


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

    def denoised(self, state: Denoised, previews: bool) -> Step:
        """The Step of a denoising state; with `previews` its x0 estimate, and its x_t."""
        step = self.step("denoise", state.index, state.total, state.x0 if previews else None)
        return replace(step, noisy=state.noisy) if previews else step
