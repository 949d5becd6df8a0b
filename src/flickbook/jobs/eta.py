"""Seconds until a film is done, phase by phase, learned from the jobs that were done before it.

A phase's time is that of the newest jobs of the same model, scaled by the work in it: pixels and steps. What a job took
beside the phases that its run tells is the writing of its file. Sequences, whose pictures are each denoised and decoded
by themselves, teach sequences alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flickbook.engine.polish import finished
from flickbook.jobs.queue import Queue
from flickbook.spec import Plan, Step
from flickbook.store.base import Job, Query

PHASES: Final = ("load", "encode", "denoise", "decode", "polish", "write")
#: Jobs that are asked, and those of them that are most alike whose middle time is taken.
_ASKED: Final = 40
_ALIKE: Final = 5
#: Steps of a run whose like was never seen, after which it tells how long it will take.
_ENOUGH: Final = 3
#: What stands among the notes of a run that did not do all of its work.
_WENT_ON: Final = ("went on from", "were there already")
#: The shares of a run whose like was never seen.
_USUAL: Final = {"load": 0.06, "encode": 0.02, "denoise": 0.8, "decode": 0.1, "polish": 0.0, "write": 0.02}


@dataclass(frozen=True)
class Past:
    """What a job took that ran with others or alone, seconds by phase, in one attempt; `write` is what is left."""

    plan: Plan
    seconds: Mapping[str, float]
    films: int = 1


def past(job: Job) -> Past | None:
    """What a job took that was done in one go; None for another."""
    if job.result is None or job.result.sidecar.run is None:
        return None
    recipe, run = job.result.sidecar.recipe, job.result.sidecar.run
    if job.state != "completed" or any(told in note for note in run.notes for told in _WENT_ON):
        return None
    told = {name: seconds for name, seconds in run.seconds.items() if name in PHASES}
    films = 1 if recipe is None else recipe.placement.batch
    return Past(job.plan, told | {"write": max(0.0, films * job.seconds - sum(told.values()))}, films)


async def history(queue: Queue) -> list[Past]:
    """What the newest jobs took, the newest first; sequences behind all others, so that a thousand films hide none."""
    jobs = await queue.store.find(Query(states=("completed",), kinds=("film", "picture"), limit=_ASKED))
    jobs += await queue.store.find(Query(states=("completed",), kinds=("sequence",), limit=_ASKED))
    return [found for found in map(past, jobs) if found is not None]


def work(plan: Plan) -> dict[str, float]:
    """How much there is to do in each phase, in units of its own."""
    pixels = float(plan.width * plan.height * plan.num_frames)
    size = finished(plan)
    whole = float(size.width * size.height * size.num_frames)
    steps = plan.num_inference_steps * (plan.strength or plan.feedback or 1.0) * (2 if plan.guided() else 1)
    polish = 0.0 if plan.polish.nothing() else whole
    return {"load": 1.0, "encode": 1.0, "denoise": pixels * steps, "decode": pixels, "polish": polish, "write": whole}


def expected(plan: Plan, found: Sequence[Past], warm: bool = False, films: int = 0) -> dict[str, float] | None:
    """Seconds of each phase of a Plan's film; None where no job of its model and its way is among `found`.

    `films` is how many are made at once, 0 for as many as lately. A model that is `warm` needs no loading.
    """
    alike = [each for each in found if _way(each.plan) == _way(plan)]
    alike = [each for each in alike if each.plan.speed == plan.speed] or alike
    alike = [each for each in alike if each.plan.shape() == plan.shape()] or alike
    alike = ([each for each in alike if each.films == films] or alike)[:_ALIKE]
    if not alike:
        return None
    own = work(plan)
    seconds = {}
    for phase in PHASES:
        scaled = []
        for each in alike:
            theirs = work(each.plan)[phase]
            # A load that was not needed then tells nothing of one that is.
            if theirs > 0 and (phase in each.seconds or phase != "load"):
                scaled.append(each.seconds.get(phase, 0.0) * own[phase] / theirs)
        seconds[phase] = statistics.median(scaled) if scaled else 0.0
    return seconds | ({"load": 0.0} if warm else {})


def abreast(plan: Plan, found: Sequence[Past]) -> float:
    """How many films of a Plan's model ran at once lately."""
    alike = [each.films for each in found if _way(each.plan) == _way(plan)][:_ALIKE]
    return statistics.fmean(alike) if alike else 1.0


def _way(plan: Plan) -> tuple[str, bool]:
    """What must be shared for one film to say anything of another's time."""
    return plan.model, plan.task == "sequence"


class Pace:
    """How far a run is, and the seconds that are left of it."""

    def __init__(
        self, plan: Plan, found: Sequence[Past] = (), *, warm: bool = False, until: float = 1.0, films: int = 1
    ) -> None:
        known = expected(plan, found, warm, films)
        self._known = known is not None
        self._seconds = dict(known or _USUAL)
        self._until = until
        if until < 1:
            self._seconds = {**self._seconds, "decode": 0.0, "polish": 0.0, "write": 0.0}
            self._seconds["denoise"] *= until
        self._phase, self._first = "", 0
        self._phase_began = time.monotonic()

    def after(self, step: Step) -> tuple[float, float | None]:
        """The share of the whole that is done with this Step, 0 to 1, and the seconds left where they can be told."""
        if step.phase != self._phase:
            # A run that goes on from a checkpoint begins in the middle of a phase.
            self._phase = step.phase
            self._first = step.index if step.phase == "denoise" and step.seconds < 1e-3 * step.index else 0
        total = max(1.0, step.total * (self._until if step.phase == "denoise" else 1.0))
        within = min(1.0, step.index / total)
        self._learn(step, total)
        place = PHASES.index(step.phase)
        behind = sum(self._seconds[name] for name in PHASES[:place])
        ahead = sum(self._seconds[name] for name in PHASES[place + 1 :])
        own = self._seconds[step.phase]
        whole = behind + own + ahead
        share = (behind + own * within) / whole if whole > 0 else 0.0
        return share, own * (1 - within) + ahead if self._known else None

    def _learn(self, step: Step, total: float) -> None:
        """What this run takes itself is known best."""
        done = step.index - self._first
        if done < 2 and step.index < total:
            return
        if not self._known and step.phase == "denoise" and done >= _ENOUGH and step.seconds > 0:
            # The first film of its kind: its own steps tell how long the usual shares are.
            longer = step.seconds * total / done / self._seconds["denoise"]
            self._seconds = {name: seconds * longer for name, seconds in self._seconds.items()}
            self._known = True
        if self._known and done > 0:
            self._seconds[step.phase] = step.seconds * total / done if step.seconds > 0 else 0.0
