"""Jobs that a command runs itself. They are queued before they begin, so an interrupted command can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flickbook.cli import console
from flickbook.errors import Cancelled, JobConflict, StoreError

if TYPE_CHECKING:
    from flickbook.jobs.backend import Backend
    from flickbook.media.clip import Clip
    from flickbook.spec import Step
    from flickbook.store.base import Job


@contextmanager
def backend() -> Iterator[Backend]:
    """Yield the queue from the settings. If it cannot be opened, films are still made, but cannot be resumed."""
    from flickbook.jobs.backend import Backend

    try:
        found = Backend.at()
    except StoreError as error:
        console.note(f"{error}. The film is made, but it is not stored as a job and cannot be resumed")
        place = TemporaryDirectory(prefix="flickbook-")
        with place as home, Backend.at(f"sqlite:///{home}/jobs.db", Path(home) / "jobs") as found:
            found.lasting = False
            yield found
        return
    with found:
        yield found


def run(
    backend: Backend,
    jobs: Sequence[Job],
    on_step: Callable[[Step], None],
    path_of: Callable[[Job, Clip], Path] | None = None,
    previews: bool = False,
) -> Iterator[Job]:
    """Run the jobs of one command, in batches; yield each job when it is done, unless it was done before.

    Raises the error of a film that fails, Cancelled if one is cancelled, JobConflict if another worker runs one.
    """
    from flickbook.jobs.workers.runner import Runner
    from flickbook.store.base import DONE

    runner = Runner(backend)
    for batch in _batches(jobs):
        # Some may have been cancelled or completed elsewhere meanwhile.
        batch = [backend.ask(backend.queue.job(job.id)) for job in batch]
        left = _claimed(backend, [job for job in batch if job.state not in DONE])
        if not left:
            continue
        callbacks: Any = {"on_step": on_step, "previews": previews, "path_of": path_of}
        try:
            ended = runner.run(left, beside=batch, strict=True, **callbacks)
        except KeyboardInterrupt:
            raise Cancelled(_rest(backend, left)) from None
        for job in ended:
            if job.state == "completed":
                yield job
        if len(ended) < len(left):
            raise JobConflict(
                left[0].id, "running in another process", "finished here", "`flickbook jobs list` shows it"
            )
        if any(job.state != "completed" for job in ended):
            raise Cancelled(_rest(backend, left))


def release_dead(backend: Backend) -> None:
    """Release the jobs of dead commands on this machine before their leases expire."""
    from flickbook.jobs.workers.worker import is_dead
    from flickbook.store.base import Query

    running = backend.ask(backend.store.find(Query(states=("running",))))
    for name in {job.worker for job in running if job.home == "command" and is_dead(job.worker)}:
        backend.ask(backend.queue.release_jobs_of(name, "its command was killed"))


def interrupted(backend: Backend, job: Job) -> Job | None:
    """The job of an interrupted command that was to write the same film, by the same training if it has one, to the
    same file; None if there is none."""
    from flickbook.store.base import Query

    release_dead(backend)
    paused = backend.ask(backend.store.find(Query(states=("paused",), kinds=(job.kind,))))
    alike = (each for each in paused if each.home == "command" and each.output == job.output and each.attempt)
    return next((each for each in alike if _work(each) == _work(job)), None)


def _work(job: Job) -> tuple[object, ...]:
    """What a job does, apart from its output."""
    return job.plan.key(), job.model_dir, job.tuning


def _rest(backend: Backend, jobs: Sequence[Job]) -> str:
    """How to resume the jobs, "" if none can be resumed."""
    paused = (job.id for job in jobs if backend.lasting and backend.ask(backend.queue.job(job.id)).state == "paused")
    first = next(paused, None)
    return "" if first is None else f"run `flickbook jobs resume {first}` to continue"


def _claimed(backend: Backend, jobs: Sequence[Job]) -> list[Job]:
    """Claim jobs that run together: all or none."""
    from flickbook.jobs.queue import LEASE
    from flickbook.jobs.workers.worker import name_of

    found: list[Job] = []
    for job in jobs:
        claimed = backend.ask(backend.store.claim(name_of(), LEASE, id=job.id))
        if claimed is None:
            for each in found:
                backend.ask(backend.queue.release(each))
            state = backend.ask(backend.queue.job(job.id)).state
            raise JobConflict(job.id, state, "run here", f"`flickbook jobs show {job.id}` shows details")
        found.append(claimed)
    return found


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Divide the jobs of one command into batches. Jobs of drafts run individually."""
    from flickbook.engine.films import together
    from flickbook.jobs.workers.batching import run_options_for

    first = jobs[0]
    size = (
        1 if first.kind == "draft" or len(jobs) == 1 else together([job.plan for job in jobs], run_options_for([first]))
    )
    for begin in range(0, len(jobs), size):
        yield list(jobs[begin : begin + size])
