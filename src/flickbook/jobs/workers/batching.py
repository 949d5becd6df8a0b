"""Chooses the queued jobs that one worker runs together as a batch.

A worker claims the first job of the queue. Of the next `NEXT` queued jobs it adds those that have the same priority
and shape and were never started. Jobs that are passed over keep their places, so the first of them is claimed next.
A film depends on how many films its batch has, but not on which ones. An interrupted batch therefore continues with
the same size: a worker that claims one of its jobs claims all that are left and resumes from their common
checkpoint; slots whose jobs are gone are computed too. A job whose worker died twice without progress restarts
alone, so that a job that kills its workers fails alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flickbook import settings
from flickbook.engine.films import RunOptions, engine_of, run_options_of
from flickbook.engine.memory.fit import Machine, batch_size
from flickbook.engine.shots.film import run_options_for_shots
from flickbook.engine.sources import keys
from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import STALLS
from flickbook.store.base import Job

#: Queued jobs that are examined for others to run with one.
NEXT: Final = 32
#: Maximum films per batch (`Placement.batch`).
_MOST: Final = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobBatch:
    """Claimed `jobs` that run together.

    `slots` are all jobs of the batch in order, including those that ended or belong to another worker. `batch` is
    the id under which its checkpoint is kept, "" for a job that runs alone.
    """

    jobs: tuple[Job, ...]
    slots: tuple[Job, ...]
    batch: str = ""

    @classmethod
    def alone(cls, job: Job) -> JobBatch:
        """One job that runs alone."""
        return cls((job,), (job,))


def gather(
    backend: Backend, worker: str, lease: float, job: Job, batch: int | None = None, most: int | None = None
) -> JobBatch:
    """Claims the jobs that run with `job`, which `worker` just claimed for `lease` seconds.

    `batch` is the maximum batch size, by default from the settings; `most` is the maximum number of jobs to claim.
    """
    if not is_batchable(job):
        return JobBatch.alone(job)
    try:
        if job.attempt > 1:
            return _rejoined(backend, worker, lease, job)
        size = min(most or _MOST, room(job, batch))
        if size < 2:
            return JobBatch.alone(job)
        more = backend.ask(backend.store.claim_more(worker, lease, same_batch(job), size - 1, NEXT))
        return _started(backend, {each.id: each for each in (job, *more)})
    except FlickbookError as error:
        # Leases of other claimed jobs will expire, which releases them.
        logger.error("%s runs alone: %s", job.id, error)
        return JobBatch.alone(job)


def plain(job: Job) -> bool:
    """Whether a queued job makes one film or one picture from its own prompts."""
    return job.home == "queue" and job.kind in ("film", "picture")


def is_batchable(job: Job) -> bool:
    """Whether a job may run in a batch: `plain`, from start to end, with a fixed seed."""
    return plain(job) and not job.parent and not job.thresholds


def same_batch(job: Job) -> Callable[[Job], bool]:
    """A predicate for the queued jobs that may start together with this one."""

    def fits(other: Job) -> bool:
        return other.attempt == 0 and is_batchable(other) and _like(other) == _like(job)

    return fits


def _like(job: Job) -> tuple[object, ...]:
    """The properties that jobs of a batch must share: the shape of their films and what makes them."""
    return job.priority, job.plan.shape(), job.request.loras, job.model_dir, job.precision


def warm_run_options(job: Job) -> RunOptions:
    """The run options that select the engine of a job's film, without its sources."""
    loras = tuple((Path(path), weight) for path, weight in job.request.loras or ())
    return RunOptions(Path(job.model_dir) if job.model_dir else None, loras, precision=job.precision)


def room(job: Job, batch: int | None = None) -> int:
    """How many jobs like this one may run together here: `batch`, the setting or what the device suggests, limited by
    memory.

    On a CPU the default is 1: batching there doubles the wait for the first film and gains little.
    """
    requested = batch or settings.load().batch
    if requested == 1:
        return 1
    run_options = warm_run_options(job)
    try:
        engine = engine_of(job.plan, run_options)
        if engine.placement.device == "cpu" and requested is None:
            return 1
        return batch_size(
            engine.model, job.plan, Machine.here(), engine.placement, _MOST, run_options.model_dir, requested
        )
    except (FlickbookError, OSError):  # the run itself will report the error
        return 1


def _started(backend: Backend, jobs: Mapping[str, Job]) -> JobBatch:
    """Starts a new batch of these jobs, or runs one alone."""
    members = tuple(jobs.values())
    if len(members) == 1:
        backend.artifacts.leave(members[0].id)
        return JobBatch.alone(members[0])
    try:
        return JobBatch(members, members, backend.artifacts.gather(members))
    except (FlickbookError, OSError) as error:
        logger.warning("the record of a batch cannot be saved; its jobs will resume one by one: %s", error)
        return JobBatch(members, members)


def _rejoined(backend: Backend, worker: str, lease: float, job: Job) -> JobBatch:
    """Claims the rest of the batch that a job was started in; the job runs alone if it has none."""
    batch, slots = backend.artifacts.batch(job.id)
    ids = [each.id for each in slots]
    if job.id not in ids:
        return JobBatch.alone(job)
    if job.stalls >= STALLS:
        backend.artifacts.leave(job.id)
        return JobBatch.alone(job)

    def fits(other: Job) -> bool:
        return other.stalls + 1 < STALLS and backend.artifacts.batch(other.id)[0] == batch

    more = backend.ask(backend.store.claim_more(worker, lease, fits, len(ids), ids))
    claimed = {each.id: each for each in (job, *more)}
    claimed = {id: claimed[id] for id in ids if id in claimed}
    if not backend.artifacts.checkpoint(batch).exists():  # nothing was computed, so there is no batch to continue
        return _started(backend, claimed)
    return JobBatch(tuple(claimed.values()), tuple(claimed.get(each.id, each) for each in slots), batch)


def run_options_for(jobs: Sequence[Job]) -> RunOptions:
    """The run options of jobs that run together: what their films need besides their Plans. Raises MediaError,
    WeightsError.
    """
    found = []
    for job in jobs:
        home = Path(job.model_dir) if job.model_dir else None
        of = run_options_for_shots if job.kind == "shots" else run_options_of
        run_options = of(job.plan, job.request, home, job.precision)
        found.append(replace(run_options, networks={digest: Path(path) for digest, path in job.networks.items()}))
    return found[0].merged(found[1:])


def filled(run_options: RunOptions, slots: Sequence[Job]) -> RunOptions:
    """Fills in sources for every slot of a batch: slots whose jobs have ended may use any source of the same role."""
    found = dict(run_options.sources)
    for role in zip(*(keys(job.plan) for job in slots), strict=True):
        if (frames := next((found[each] for each in role if each in found), None)) is not None:
            found = dict.fromkeys(role, frames) | found
    return replace(run_options, sources=found)
