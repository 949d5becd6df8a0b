"""Estimates the remaining seconds of a film, phase by phase, from earlier jobs.

The time of a phase is taken from the newest jobs of the same model and scaled by the work in it: pixels and steps.
The time that a job took outside the phases that its run reports counts as writing the file. Sequences denoise and
decode each picture separately, so only sequences are used to estimate sequences.
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

PHASES: Final = ("load", "encode", "train", "denoise", "decode", "polish", "write")
#: Number of jobs that are read, and of the most similar ones among them whose median is used.
_ASKED: Final = 40
_ALIKE: Final = 5
#: Steps after which a run without comparable jobs reports an estimate.
_ENOUGH: Final = 3
#: Phrases in a run's notes that show that it did not do all of its work; the last two are of older versions.
_RESUMED: Final = ("resumed from step", "existed already", "went on from", "were there already")
#: Shares of the phases in a run without comparable jobs.
_USUAL: Final = dict(zip(PHASES, (0.06, 0.02, 0.0, 0.8, 0.1, 0.0, 0.02), strict=True))
#: The same of a training, whose clips are encoded first and whose film is a sample.
_TUNE: Final = dict(zip(PHASES, (0.02, 0.05, 0.9, 0.02, 0.0, 0.0, 0.01), strict=True))
#: The phases that take most of the time of a film and of a training.
_MAIN: Final = ("denoise", "train")


@dataclass(frozen=True)
class Past:
    """Seconds that a completed job took by phase, in one attempt; `write` is the remainder, `films` the batch size."""

    plan: Plan
    seconds: Mapping[str, float]
    films: int = 1


def past(job: Job) -> Past | None:
    """The timing of a job that was completed in one attempt; None for other jobs."""
    if job.result is None or job.result.sidecar.run is None:
        return None
    recipe, run = job.result.sidecar.recipe, job.result.sidecar.run
    if job.state != "completed" or any(text in note for note in run.notes for text in _RESUMED):
        return None
    seconds = {name: each for name, each in run.seconds.items() if name in PHASES}
    films = 1 if recipe is None else recipe.placement.batch
    return Past(job.plan, seconds | {"write": max(0.0, films * job.seconds - sum(seconds.values()))}, films)


async def history(queue: Queue) -> list[Past]:
    """Timings of the newest jobs, newest first. Sequences come last and have a limit of their own, so that many films
    do not crowd them out.
    """
    jobs = await queue.store.find(Query(states=("completed",), kinds=("film", "picture"), limit=_ASKED))
    for kind in ("sequence", "shots"):
        jobs += await queue.store.find(Query(states=("completed",), kinds=(kind,), limit=_ASKED))
    return [found for found in map(past, jobs) if found is not None]


def work(plan: Plan) -> dict[str, float]:
    """The amount of work in each phase, in units specific to the phase."""
    pixels = float(plan.width * plan.height * plan.num_frames)
    size = finished(plan)
    whole = float(size.width * size.height * size.num_frames)
    steps = plan.num_inference_steps * (plan.strength or plan.feedback or 1.0) * (2 if plan.guided() else 1)
    polish = 0.0 if plan.polish.nothing() else whole
    amounts = {"load": 1.0, "encode": 1.0, "train": 0.0, "denoise": pixels * steps}
    if plan.shots:
        each = [work(shot.plan) for shot in plan.shots]
        amounts["denoise"], pixels = (sum(one[phase] for one in each) for phase in ("denoise", "decode"))
    return {**amounts, "decode": pixels, "polish": polish, "write": whole}


def expected(plan: Plan, found: Sequence[Past], warm: bool = False, films: int = 0) -> dict[str, float] | None:
    """The expected seconds of each phase of a Plan's film; None if `found` has no job of its model and task.

    `films` is the batch size, 0 for recent batch sizes. A model that is `warm` needs no loading.
    """
    alike = [each for each in found if _way(each.plan) == _way(plan)]
    alike = [each for each in alike if each.plan.speed == plan.speed] or alike
    alike = [each for each in alike if each.plan.shape() == plan.shape()] or alike
    alike = ([each for each in alike if each.films == films] or alike)[:_ALIKE]
    if not alike:
        return None
    amounts = work(plan)
    seconds = {}
    for phase in (each for each in PHASES if each != "train"):
        scaled = []
        for each in alike:
            theirs = work(each.plan)[phase]
            # A run without loading says nothing about the time that loading takes.
            if theirs > 0 and (phase in each.seconds or phase != "load"):
                scaled.append(each.seconds.get(phase, 0.0) * amounts[phase] / theirs)
        seconds[phase] = statistics.median(scaled) if scaled else 0.0
    return seconds | ({"load": 0.0} if warm else {})


def parallel_films(plan: Plan, found: Sequence[Past]) -> float:
    """The mean recent batch size of a Plan's model."""
    alike = [each.films for each in found if _way(each.plan) == _way(plan)][:_ALIKE]
    return statistics.fmean(alike) if alike else 1.0


def _way(plan: Plan) -> tuple[str, str]:
    """The properties that two films must share for their times to be comparable."""
    return plan.model, plan.task if plan.task in ("sequence", "shots") else ""


class Pace:
    """The progress of a run and its remaining seconds."""

    def __init__(
        self,
        plan: Plan,
        found: Sequence[Past] = (),
        *,
        warm: bool = False,
        until: float = 1.0,
        films: int = 1,
        tune: bool = False,
    ) -> None:
        known = None if tune else expected(plan, found, warm, films)
        self._known = known is not None
        self._seconds = dict.fromkeys(PHASES, 0.0) | (known or (_TUNE if tune else _USUAL))
        self._until = until
        if until < 1:
            self._seconds = {**self._seconds, "decode": 0.0, "polish": 0.0, "write": 0.0}
            self._seconds["denoise"] *= until
        self._phase, self._first, self._share = "", 0, 0.0
        self._phase_began = time.monotonic()

    def after(self, step: Step) -> tuple[float, float | None]:
        """The share of the work that is done after this Step, 0 to 1, and the remaining seconds, None if unknown.

        The share never falls, although a phase may turn out to take longer than expected.
        """
        if step.phase != self._phase:
            # A resumed run begins in the middle of a phase.
            self._phase = step.phase
            self._first = step.index if step.phase in _MAIN and step.seconds < 1e-3 * step.index else 0
        total = max(1.0, step.total * (self._until if step.phase == "denoise" else 1.0))
        within = min(1.0, step.index / total)
        self._learn(step, total)
        place = PHASES.index(step.phase)
        behind = sum(self._seconds[name] for name in PHASES[:place])
        ahead = sum(self._seconds[name] for name in PHASES[place + 1 :])
        current = self._seconds[step.phase]
        whole = behind + current + ahead
        share = (behind + current * within) / whole if whole > 0 else 0.0
        self._share = max(self._share, share)
        return self._share, current * (1 - within) + ahead if self._known else None

    def _learn(self, step: Step, total: float) -> None:
        """Updates the estimate with the times of this run, which are more accurate than those of earlier jobs."""
        done = step.index - self._first
        if done < 2 and step.index < total:
            return
        if not self._known and step.phase in _MAIN and done >= _ENOUGH and step.seconds > 0:
            # No comparable job: scale the default shares by the speed of this run's own steps.
            longer = step.seconds * total / done / self._seconds[step.phase]
            self._seconds = {name: seconds * longer for name, seconds in self._seconds.items()}
            self._known = True
        if self._known and done > 0:
            self._seconds[step.phase] = step.seconds * total / done if step.seconds > 0 else 0.0
