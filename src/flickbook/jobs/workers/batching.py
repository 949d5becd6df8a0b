"""Jobs that one worker runs as one batch: which of the queue go together, and how many.

A worker claims the first job of the queue, as ever. With it go those of the next `NEXT` that wait which have its
priority and its shape, and were never begun; those that are passed over keep their places, so the first of them is
claimed next. What a film becomes depends on how many films its batch has, and not on which. So a batch that was
interrupted goes on with as many: whoever takes up one of its jobs takes up all that are left, from the state of all of
them, and what is nobody's any more is computed beside them. A job whose worker died twice before it got any further
begins again by itself: one that kills its workers fails alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flickbook import settings
from flickbook.engine.films import RunOptions, engine_of
from flickbook.engine.memory.fit import Machine, abreast
from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import STALLS
from flickbook.store.base import Job

#: How many of those that wait are looked at for more jobs that go with one.
NEXT: Final = 32
#: Films of one batch at most (`Placement.batch`).
_MOST: Final = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crew:
    """Claimed `jobs` that run together. `slots` are all jobs of their batch in its order, others' and done ones too;
    `batch` is where its state is kept, "" for a job that runs by itself."""

    jobs: tuple[Job, ...]
    slots: tuple[Job, ...]
    batch: str = ""

    @classmethod
    def alone(cls, job: Job) -> Crew:
        """One job, by itself."""
        return cls((job,), (job,))


def gather(
    backend: Backend, worker: str, lease: float, job: Job, batch: int | None = None, most: int | None = None
) -> Crew:
    """The jobs that run with one that `worker` just claimed, claimed as it was for `lease` seconds.

    `batch` is how many may run together, as the settings say by default, and `most` how many are wanted at all.
    """
    if not sociable(job):
        return Crew.alone(job)
    try:
        if job.attempt > 1:
            return _rejoined(backend, worker, lease, job)
        size = min(most or _MOST, room(job, batch))
        if size < 2:
            return Crew.alone(job)
        more = backend.ask(backend.store.claim_more(worker, lease, fitting(job), size - 1, NEXT))
        return _begun(backend, {each.id: each for each in (job, *more)})
    except FlickbookError as error:
        # What else was claimed is free again when its lease is over.
        logger.error("%s runs by itself: %s", job.id, error)
        return Crew.alone(job)


def plain(job: Job) -> bool:
    """Whether a job of the queue makes one film or one picture from its own prompts."""
    return job.home == "queue" and job.kind in ("film", "picture")


def sociable(job: Job) -> bool:
    """Whether a job may run with others: `plain`, from its beginning to its end, with the seed it has."""
    return plain(job) and not job.parent and not job.thresholds


def fitting(job: Job) -> Callable[[Job], bool]:
    """Which queued jobs may begin together with this one."""

    def fits(other: Job) -> bool:
        return other.attempt == 0 and sociable(other) and _like(other) == _like(job)

    return fits


def _like(job: Job) -> tuple[object, ...]:
    """What jobs of one batch share: the shape of their films, and what makes them."""
    return job.priority, job.plan.shape(), job.request.loras, job.model_dir, job.precision


def warm_run_options(job: Job) -> RunOptions:
    """What decides the engine of a job's film, without what the film begins from."""
    loras = tuple((Path(path), weight) for path, weight in job.request.loras or ())
    return RunOptions(Path(job.model_dir) if job.model_dir else None, loras, precision=job.precision)


def room(job: Job, batch: int | None = None) -> int:
    """How many jobs like this one may run together here: `batch`, or as the setting or the device has it, as far as
    memory allows. One on a processor unless it is asked for: the first waits twice as long there, for little.
    """
    asked = batch or settings.load().batch
    if asked == 1:
        return 1
    run_options = warm_run_options(job)
    try:
        engine = engine_of(job.plan, run_options)
        if engine.placement.device == "cpu" and asked is None:
            return 1
        return abreast(engine.model, job.plan, Machine.here(), engine.placement, _MOST, run_options.model_dir, asked)
    except (FlickbookError, OSError):  # its run will say what is wrong
        return 1


def _begun(backend: Backend, jobs: Mapping[str, Job]) -> Crew:
    """These jobs as a new batch, or one by itself."""
    own = tuple(jobs.values())
    if len(own) == 1:
        backend.artifacts.leave(own[0].id)
        return Crew.alone(own[0])
    try:
        return Crew(own, own, backend.artifacts.gather(own))
    except (FlickbookError, OSError) as error:
        logger.warning("a batch cannot be kept, and will not go on together: %s", error)
        return Crew(own, own)


def _rejoined(backend: Backend, worker: str, lease: float, job: Job) -> Crew:
    """The rest of the batch that a job was begun in, with as many films; by itself without one."""
    batch, slots = backend.artifacts.batch(job.id)
    ids = [each.id for each in slots]
    if job.id not in ids:
        return Crew.alone(job)
    if job.stalls >= STALLS:
        backend.artifacts.leave(job.id)
        return Crew.alone(job)

    def fits(other: Job) -> bool:
        return other.stalls + 1 < STALLS and backend.artifacts.batch(other.id)[0] == batch

    more = backend.ask(backend.store.claim_more(worker, lease, fits, len(ids), ids))
    own = {each.id: each for each in (job, *more)}
    own = {id: own[id] for id in ids if id in own}
    if not backend.artifacts.checkpoint(batch).exists():  # nothing was computed that would have to be gone on with
        return _begun(backend, own)
    return Crew(tuple(own.values()), tuple(own.get(each.id, each) for each in slots), batch)
