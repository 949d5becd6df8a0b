"""Runs claimed jobs in this process: makes their films, writes them to files of this attempt, and settles the jobs.

Whatever happens, a job ends in a state that the store knows: completed, failed with a reason, or released. Only if
the process dies does it stay running, until its lease expires. An error in one film of a batch affects only that
job.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.draft import drafts
from flickbook.engine.films import RunOptions
from flickbook.engine.memory.fallback import ran_out
from flickbook.engine.retry import good_films
from flickbook.errors import Cancelled, StoreError
from flickbook.jobs import queue
from flickbook.jobs.artifacts import CHECKPOINT, LOG
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.jobs.workers.batching import filled, run_options_for
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.log import logged
from flickbook.jobs.workers.output import BackgroundWriter, PathOf, drafted, filed, removed
from flickbook.jobs.workers.prefetch import Reader
from flickbook.jobs.workers.progress import OnStep, Watch
from flickbook.jobs.workers.sequences import sequence
from flickbook.jobs.workers.shots import shots
from flickbook.spec import Plan
from flickbook.store.base import Job, Query, Result

logger = logging.getLogger(__name__)
#: Maximum films of one command.
_TOGETHER: Final = 1000
#: Kinds that are written in the background. Extensions and drafts are written at once.
_ASIDE: Final = ("film", "picture")
#: Writes the file of a film.
Write = Callable[[], Result]


@dataclass(frozen=True)
class _Options:
    """Options of a run that are the same for all its jobs."""

    on_step: OnStep | None = None
    previews: bool = False
    strict: bool = False
    path_of: PathOf | None = None


@dataclass(frozen=True)
class _Run:
    """One pass over a batch: `slots` are all its jobs in order, of which only the unfinished ones are made."""

    attempt: Attempt
    slots: Sequence[Job]
    batch: str
    run_options: RunOptions
    checkpointer: Checkpointer
    watch: Watch
    options: _Options


class Runner:
    """Runs claimed jobs. `lease`, `beat` and `look` are seconds.

    With `aside`, films of queued jobs are written and settled in the background while the next ones are made: `run`
    returns early, and `wait` waits until all are written. The prompts of the next job are then encoded while this
    one is denoised. `prepare` is called before the films are made, with the leases held.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        lease: float = LEASE,
        beat: float = BEAT,
        look: float = LOOK,
        aside: bool = False,
        prepare: Callable[[Attempt, Sequence[Job]], None] = lambda attempt, jobs: None,
    ) -> None:
        self._prepare = prepare
        self._backend, self._times = backend, {"lease": lease, "beat": beat, "look": look}
        self._writer = BackgroundWriter() if aside else None
        self._reader = Reader(backend) if aside else None
        self._attempts: list[Attempt] = []
        self._leaving = False

    def leave(self) -> None:
        """Releases the running jobs at their next step and starts no more."""
        self._leaving = True
        for attempt in list(self._attempts):
            attempt.leaving = True

    def wait(self) -> None:
        """Waits until all films are written and settled, and prompts are encoded."""
        if self._reader is not None:
            self._reader.wait()
        if self._writer is not None:
            self._writer.wait()

    def run(
        self,
        jobs: Sequence[Job],
        *,
        beside: Sequence[Job] = (),
        batch: str = "",
        on_step: OnStep | None = None,
        previews: bool = False,
        strict: bool = False,
        path_of: PathOf | None = None,
    ) -> list[Job]:
        """Runs jobs of one shape that were claimed together; returns them as they ended, without those whose lease was
        lost.

        `beside` are all jobs of their batch in order, including those that ended, as the batch size affects the last
        bits of a film. With `batch`, the checkpoint is kept under this id instead of the first job's. `on_step`
        receives every Step; with `previews`, denoising Steps carry previews. With `strict`, the error of a failed
        job is raised after the job is settled, and fails the remaining jobs. `path_of` chooses the path of a
        command's film. A KeyboardInterrupt releases the remaining jobs and is raised again.
        """
        jobs = [self._backend.artifacts.localised(job) for job in jobs]
        claimed = {job.id: job for job in jobs}
        slots = [claimed.get(job.id) or self._backend.artifacts.localised(job) for job in beside or jobs]
        attempt = Attempt(self._backend, jobs, films=len(slots), **self._times)
        self._attempts.append(attempt)
        attempt.leaving = self._leaving
        with ExitStack() as stack:
            stack.callback(self._attempts.remove, attempt)
            stack.enter_context(attempt)
            with logged(self._backend.artifacts, jobs), ExitStack() as mirror:
                try:
                    ids = [*claimed, *([batch] if batch else [])]
                    mirror.enter_context(self._backend.artifacts.mirrored(ids, lambda: not attempt.lost))
                    self._prepare(attempt, jobs)
                    self._work(attempt, slots, batch, _Options(on_step, previews, strict, path_of))
                except Cancelled:
                    pass
                except KeyboardInterrupt:
                    attempt.leaving = True
                    raise
                except StoreError as error:
                    # The films are fine: the next attempt resumes from their checkpoints.
                    logger.error("%s", error)
                    if strict:
                        raise
                except Exception as error:
                    self._failed(attempt, error, jobs)
                    if strict:
                        raise
                finally:
                    mirror.close()  # before another machine can claim the jobs
                    attempt.release()
            if attempt.aside and self._writer is not None:  # keep the leases until the jobs are settled
                self._writer.after(stack.pop_all().close)
        return attempt.ended

    def _work(self, attempt: Attempt, slots: Sequence[Job], batch: str, options: _Options) -> None:
        """Makes the films of all unfinished jobs. Raises Cancelled if they are to stop, and the error of the last one.

        An error while one film of a batch is finished fails only that job; the others continue from their denoised
        latents. If the batch fails before that, its films are made one by one.
        """
        started = {job.id for job in slots if job.id in attempt.jobs}
        while unfinished := [job for job in slots if job.id in attempt.jobs]:
            run_options = self._run_options(attempt, slots, unfinished, options)
            if run_options is None:
                continue
            run = self._run(attempt, slots, batch, run_options, options)
            try:
                for job, write in self._made(run):
                    self._finish(run, job, write)
                break
            except Cancelled:
                if run.watch.finishing is None or attempt.leaving or attempt.lost:
                    raise
                attempt.release([run.watch.finishing.id])
            except StoreError:
                raise
            except Exception as error:
                if options.strict or len(unfinished) < 2:
                    raise
                if run.watch.finishing is None:
                    self._one_by_one(attempt, unfinished, options, error)
                else:
                    self._failed(attempt, error, [run.watch.finishing])
        # A job whose lease was lost belongs to another worker, which may resume from this checkpoint.
        if len(slots) > 1 and not batch and started <= {job.id for job in attempt.ended if job.state == "completed"}:
            self._forget(slots[0])

    def _one_by_one(self, attempt: Attempt, jobs: Sequence[Job], options: _Options, error: Exception) -> None:
        """Makes the films of a failed batch one by one, from the start."""
        logger.warning("a batch of %d films failed; they are made one by one: %s", len(jobs), error)
        for job in jobs:
            self._backend.artifacts.leave(job.id)
            try:
                self._work(attempt, [job], "", options)
            except (Cancelled, StoreError) as stopped:
                if isinstance(stopped, StoreError) or attempt.leaving or attempt.lost:
                    raise
            except Exception as failure:
                self._failed(attempt, failure, [job])

    def _run_options(
        self, attempt: Attempt, slots: Sequence[Job], unfinished: Sequence[Job], options: _Options
    ) -> RunOptions | None:
        """The run options of a batch; a job whose inputs are missing fails alone. None if no job is left."""
        if options.strict or len(unfinished) < 2:
            return (
                filled(run_options_for(unfinished), slots) if len(unfinished) < len(slots) else run_options_for(slots)
            )
        ready = []
        for job in unfinished:
            try:
                ready.append(run_options_for([job]))
            except Exception as error:
                self._failed(attempt, error, [job])
        return filled(ready[0].merged(ready[1:]), slots) if ready else None

    def _run(
        self, attempt: Attempt, slots: Sequence[Job], batch: str, run_options: RunOptions, options: _Options
    ) -> _Run:
        """Prepares a pass over a batch, with the placement of its first attempt."""
        for job in list(attempt.jobs.values()):
            self._backend.artifacts.tidy(job.id, job.attempt)
        checkpointer = self._checkpointer(slots[0], attempt, batch)
        kept = checkpointer.look([job.plan for job in slots])
        run_options = replace(run_options, batch_size=len(slots))
        if kept is not None:  # use the saved placement, so that the result is bit-identical
            run_options = replace(run_options, placement=kept.placement.model_copy(update={"batch": len(slots)}))
        if self._reader is not None:
            self._reader.wait()
        watch = Watch(self._backend, attempt, slots, run_options, options.on_step, self._reader)
        return _Run(attempt, slots, batch, run_options, checkpointer, watch, options)

    def _made(self, run: _Run) -> Iterator[tuple[Job, Write]]:
        """Makes the films of the unfinished jobs in order; yields each job with a function that writes its file. Raises
        Cancelled.
        """
        first, plans, backend = run.slots[0], [job.plan for job in run.slots], self._backend
        path_of = run.options.path_of

        def keep(some: Sequence[Plan]) -> Checkpointer:
            """Selects the checkpointer; retries with other seeds have their own."""
            if [plan.key() for plan in some] == [plan.key() for plan in plans] or first.kind == "draft":
                return run.checkpointer
            return Checkpointer(backend.artifacts.attempt(first.id, some[0].key()), may=lambda: not run.attempt.lost)

        stop = partial(run.attempt.stop, [job.id for job in run.slots])
        how: dict[str, Any] = {"on_step": run.watch, "cancel": stop, "keep": keep}
        if first.kind == "draft":
            draft = next(drafts(plans, run.run_options, until=first.until, **how))
            yield first, partial(drafted, backend, first, draft.frames, draft.fps)
            return
        if first.kind == "tune":
            from flickbook.jobs.workers.tuning import tuned  # imported late: it needs the training's libraries

            clip = tuned(backend.artifacts, first, run.watch, stop, lambda: not run.attempt.lost)
            yield first, partial(filed, backend, first, clip, path_of)
            return
        if first.kind in ("sequence", "shots"):
            own = (backend.artifacts, first, run.run_options, run.watch, stop)
            clip = sequence(*own) if first.kind == "sequence" else shots(*own, keep)
            yield first, partial(filed, backend, first, clip, path_of)
            return
        # Previews of a command's job are seen only by the command itself.
        how |= {"previews": run.options.previews or first.home == "queue", "apart": self._apart(first)}
        clips = good_films(
            plans, run.run_options, first.thresholds, first.retries, film_filter=partial(_is_wanted, run), **how
        )
        for clip in clips:
            assert run.watch.finishing is not None
            yield run.watch.finishing, partial(filed, backend, run.watch.finishing, clip, path_of)

    def _finish(self, run: _Run, job: Job, write: Write) -> None:
        """Writes a film and settles its job, in the background unless the job's earlier attempts made no progress."""
        attempt, strict = run.attempt, run.options.strict
        if self._writer is not None and job.home == "queue" and job.kind in _ASIDE and job.stalls < 2:
            with run.watch.writing(job):
                attempt.put_aside(job.id)
            self._writer.hand(partial(self._aside, run, job, write))
            return
        try:
            with run.watch.writing(job):
                result = _written(run, job, write)
            self._settle(run, job, result)
        except (Cancelled, StoreError):
            raise
        except Exception as error:
            if strict or len(attempt.jobs) < 2:
                raise
            self._failed(attempt, error, [job])

    def _aside(self, run: _Run, job: Job, write: Write) -> None:
        """Writes a film in the writer thread."""
        try:
            with logged(self._backend.artifacts, [job], writer=True):
                self._settle(run, job, _written(run, job, write))
        except Cancelled:
            run.attempt.release([job.id])
        except StoreError as error:  # released when its lease expires
            logger.error("%s: %s", job.id, error)
        except Exception as error:
            try:
                self._failed(run.attempt, error, [job])
            except StoreError as lost:
                logger.error("%s: %s", job.id, lost)
        finally:
            run.attempt.aside.pop(job.id, None)
            with suppress(StoreError, OSError):
                self._backend.artifacts.commit(self._backend.artifacts.of(job.id) / LOG)

    def _settle(self, run: _Run, job: Job, result: Result) -> None:
        """Settles a job whose film is written, and removes its checkpoint."""
        attempt = run.attempt
        found = None if attempt.lost else attempt.settle(job.id, queue.completed(job, result, attempt.seconds))
        if found is None:
            # The lease was lost: discard the output.
            attempt.jobs.pop(job.id, None)
            removed(job, result)
        elif run.batch:
            self._backend.artifacts.leave(job.id)
        elif len(run.slots) == 1:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        """Removes the saved state of a finished job or batch; a draft keeps its state, which is its result."""
        if job.kind != "draft":
            self._backend.artifacts.forget(job.id)

    def _failed(self, attempt: Attempt, error: Exception, jobs: Sequence[Job]) -> None:
        """Fails those of these jobs that are unfinished."""
        text = "".join(traceback.format_exception(error))
        code = "out_of_memory" if ran_out(error) else "unexpected"
        for job in jobs:
            if job.id in attempt.jobs or job.id in attempt.aside:
                self._backend.artifacts.log(job.id, f"attempt {job.attempt} failed\n{text}")
                attempt.settle(job.id, queue.failed(job, error, attempt.seconds, code))

    def _apart(self, job: Job) -> int:
        """The distance between the seeds of retries: the number of films that the command makes."""
        if not job.thresholds or not job.leader:
            return 1
        return len(self._backend.ask(self._backend.store.find(Query(leader=job.leader, limit=_TOGETHER))))

    def _checkpointer(self, job: Job, attempt: Attempt, batch: str = "") -> Checkpointer:
        """The checkpointer of a job or its batch; it also reads the checkpoint of a parent draft, which is kept."""
        artifacts = self._backend.artifacts
        also = [artifacts.checkpoint(job.parent)] if job.parent and job.kind != "extension" else []
        for path in also:
            artifacts.fetch(path)
        return Checkpointer(artifacts.made(batch or job.id) / CHECKPOINT, also=also, may=lambda: not attempt.lost)


def _written(run: _Run, job: Job, write: Write) -> Result:
    """Writes the file of a film. Raises Cancelled if the job was cancelled."""
    if job.kind != "draft" and run.attempt.unwanted(job.id):
        raise Cancelled
    return write()


def _is_wanted(run: _Run, number: int) -> bool:
    """Whether a film of a batch is still needed; if so, it is finished next.

    Raises Cancelled if the runner is leaving: the next worker finishes the others.
    """
    run.watch.finishing, job = None, run.slots[number]
    if run.attempt.leaving and len(run.slots) > 1:
        raise Cancelled
    if run.attempt.unwanted(job.id):
        run.attempt.release([job.id])
        return False
    run.watch.finishing = job
    return True
