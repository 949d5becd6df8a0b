"""Runs claimed jobs in this process: their films are made, written under names of this attempt, and settled.

Whatever happens, a job leaves here in a state that the store knows: done, failed with its reason, or laid down where it
is. Only a process that dies leaves it running, until its lease is over. What goes wrong with one of several is its own.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.draft import drafts
from flickbook.engine.films import RunOptions, run_options_of
from flickbook.engine.memory.fallback import ran_out
from flickbook.engine.retry import good_films
from flickbook.errors import Cancelled, StoreError
from flickbook.jobs import queue
from flickbook.jobs.artifacts import CHECKPOINT
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.log import logged
from flickbook.jobs.workers.output import PathOf, drafted, filed, removed
from flickbook.jobs.workers.prefetch import Reader
from flickbook.jobs.workers.progress import OnStep, Watch
from flickbook.jobs.workers.sequences import sequence
from flickbook.jobs.workers.writer import BackgroundWriter
from flickbook.spec import Plan
from flickbook.store.base import Job, Query, Result

logger = logging.getLogger(__name__)
#: Films that one command makes at most.
_TOGETHER: Final = 1000
#: What is written while the next is made. What is joined behind a film, or stays a draft, is written at once.
_ASIDE: Final = ("film", "picture")
#: Makes the file of a film.
Write = Callable[[], Result]


@dataclass(frozen=True)
class _Told:
    """How a run was asked for, beside its jobs."""

    on_step: OnStep | None = None
    previews: bool = False
    strict: bool = False
    path_of: PathOf | None = None


@dataclass(frozen=True)
class _Run:
    """One pass over a batch: `slots` are all its jobs in their order, of which those that are left are made."""

    attempt: Attempt
    slots: Sequence[Job]
    batch: str
    run_options: RunOptions
    checkpointer: Checkpointer
    watch: Watch
    told: _Told


class Runner:
    """Makes what claimed jobs ask for. `lease`, `beat` and `look` are seconds.

    With `aside` the films of the queue are written, and their jobs settled, while the next ones are made: `run` returns
    before, and `rest` when all is written. What the next job says is then read while this one is denoised.
    """

    def __init__(
        self, backend: Backend, *, lease: float = LEASE, beat: float = BEAT, look: float = LOOK, aside: bool = False
    ) -> None:
        self._backend, self._times = backend, {"lease": lease, "beat": beat, "look": look}
        self._writer = BackgroundWriter() if aside else None
        self._reader = Reader(backend) if aside else None
        self._attempts: list[Attempt] = []
        self._leaving = False

    def leave(self) -> None:
        """Lay down what runs at its next step, and start nothing more."""
        self._leaving = True
        for attempt in list(self._attempts):
            attempt.leaving = True

    def rest(self) -> None:
        """Wait until all films are written and settled, and nothing is read."""
        if self._reader is not None:
            self._reader.rest()
        if self._writer is not None:
            self._writer.rest()

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
        """Run jobs of one shape that were claimed together; as what they ended, without those that count no more.

        `beside` are all jobs of their batch, in its order, where some are done: the batch decides the last bits. With a
        `batch` their state is kept there, and not with the first of them. `on_step` is told of every Step, with
        `previews` those of the denoising carry theirs. With `strict` the error of a job that fails is raised once it
        is settled, and fails the others that are left; `path_of` says where a command's film goes. A KeyboardInterrupt
        lays down what is left, and is raised again.
        """
        own = {job.id: job for job in jobs}
        slots = [own.get(job.id, job) for job in beside or jobs]
        attempt = Attempt(self._backend, jobs, films=len(slots), **self._times)
        self._attempts.append(attempt)
        attempt.leaving = self._leaving
        with ExitStack() as stack:
            stack.callback(self._attempts.remove, attempt)
            stack.enter_context(attempt)
            with logged(self._backend.artifacts, jobs):
                try:
                    self._work(attempt, slots, batch, _Told(on_step, previews, strict, path_of))
                except Cancelled:
                    pass
                except KeyboardInterrupt:
                    attempt.leaving = True
                    raise
                except StoreError as error:
                    # The films are fine: whoever takes them up goes on from their states.
                    logger.error("%s", error)
                    if strict:
                        raise
                except Exception as error:
                    self._failed(attempt, error, jobs)
                    if strict:
                        raise
                finally:
                    attempt.lay_down()
            if attempt.aside and self._writer is not None:  # their leases are kept until they are settled
                self._writer.after(stack.pop_all().close)
        return attempt.ended

    def _work(self, attempt: Attempt, slots: Sequence[Job], batch: str, told: _Told) -> None:
        """Make the films of all that are left. Raises Cancelled where they are to stop, and what the last one raises.

        What goes wrong while one film of several is finished is that one's; the others go on from what is denoised.
        Before that it is nobody's, and each is made by itself.
        """
        begun = {job.id for job in slots if job.id in attempt.jobs}
        while own := [job for job in slots if job.id in attempt.jobs]:
            run_options = self._means(attempt, slots, own, told)
            if run_options is None:
                continue
            run = self._run(attempt, slots, batch, run_options, told)
            try:
                for job, write in self._made(run):
                    self._finish(run, job, write)
                break
            except Cancelled:
                if run.watch.finishing is None or attempt.leaving or attempt.lost:
                    raise
                attempt.lay_down([run.watch.finishing.id])
            except StoreError:
                raise
            except Exception as error:
                if told.strict or len(own) < 2:
                    raise
                if run.watch.finishing is None:
                    self._apiece(attempt, own, told, error)
                else:
                    self._failed(attempt, error, [run.watch.finishing])
        # What counts no more is somebody else's, who may go on from this state.
        if len(slots) > 1 and not batch and begun <= {job.id for job in attempt.ended if job.state == "completed"}:
            self._forget(slots[0])

    def _apiece(self, attempt: Attempt, jobs: Sequence[Job], told: _Told, error: Exception) -> None:
        """Make the films of jobs whose batch failed one by one, from their beginning."""
        logger.warning("%d films that were made together failed, and are made one by one: %s", len(jobs), error)
        for job in jobs:
            self._backend.artifacts.leave(job.id)
            try:
                self._work(attempt, [job], "", told)
            except (Cancelled, StoreError) as stopped:
                if isinstance(stopped, StoreError) or attempt.leaving or attempt.lost:
                    raise
            except Exception as own:
                self._failed(attempt, own, [job])

    def _means(self, attempt: Attempt, slots: Sequence[Job], own: Sequence[Job], told: _Told) -> RunOptions | None:
        """What the films of a batch need; jobs that lack it fail alone. None if there is none left."""
        if told.strict or len(own) < 2:
            return _filled(run_options_for(own), slots) if len(own) < len(slots) else run_options_for(slots)
        ready = []
        for job in own:
            try:
                ready.append(run_options_for([job]))
            except Exception as error:
                self._failed(attempt, error, [job])
        return _filled(_merged(ready), slots) if ready else None

    def _run(self, attempt: Attempt, slots: Sequence[Job], batch: str, run_options: RunOptions, told: _Told) -> _Run:
        """A pass over a batch, as it was begun."""
        for job in list(attempt.jobs.values()):
            self._backend.artifacts.tidy(job.id, job.attempt)
        checkpointer = self._checkpointer(slots[0], attempt, batch)
        kept = checkpointer.look([job.plan for job in slots])
        run_options = replace(run_options, abreast=len(slots))
        if kept is not None:  # what was decided then is decided again, so that no bit changes
            run_options = replace(run_options, placement=kept.placement.model_copy(update={"batch": len(slots)}))
        if self._reader is not None:
            self._reader.rest()
        watch = Watch(self._backend, attempt, slots, run_options, told.on_step, self._reader)
        return _Run(attempt, slots, batch, run_options, checkpointer, watch, told)

    def _made(self, run: _Run) -> Iterator[tuple[Job, Write]]:
        """What makes the file of each job that is left, in their order. Raises Cancelled where they are to stop."""
        first, plans, backend, path_of = run.slots[0], [job.plan for job in run.slots], self._backend, run.told.path_of

        def keep(some: Sequence[Plan]) -> Checkpointer:
            """A try with another seed has a state of its own."""
            if [plan.key() for plan in some] == [plan.key() for plan in plans] or first.kind == "draft":
                return run.checkpointer
            return Checkpointer(backend.artifacts.attempt(first.id, some[0].key()), may=lambda: not run.attempt.lost)

        stop = partial(run.attempt.stop, [job.id for job in run.slots])
        how: dict[str, Any] = {"on_step": run.watch, "cancel": stop, "keep": keep}
        if first.kind == "draft":
            draft = next(drafts(plans, run.run_options, until=first.until, **how))
            yield first, partial(drafted, backend, first, draft.frames, draft.fps)
            return
        if first.kind == "sequence":
            clip = sequence(backend.artifacts, first, run.run_options, run.watch, stop)
            yield first, partial(filed, backend, first, clip, path_of)
            return
        # Nobody looks at those of a command, but itself.
        how |= {"previews": run.told.previews or first.home == "queue", "apart": self._apart(first)}
        clips = good_films(plans, run.run_options, first.thresholds, first.retries, wanted=partial(_wanted, run), **how)
        for clip in clips:
            assert run.watch.finishing is not None
            yield run.watch.finishing, partial(filed, backend, run.watch.finishing, clip, path_of)

    def _finish(self, run: _Run, job: Job, write: Write) -> None:
        """Write a film, and settle its job: by the scribe, unless the job brought its worker down before."""
        attempt, strict = run.attempt, run.told.strict
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
        """Write a film in the scribe's thread."""
        try:
            with logged(self._backend.artifacts, [job], writer=True):
                self._settle(run, job, _written(run, job, write))
        except Cancelled:
            run.attempt.lay_down([job.id])
        except StoreError as error:  # free when its lease is over
            logger.error("%s: %s", job.id, error)
        except Exception as error:
            try:
                self._failed(run.attempt, error, [job])
            except StoreError as lost:
                logger.error("%s: %s", job.id, lost)
        finally:
            run.attempt.aside.pop(job.id, None)

    def _settle(self, run: _Run, job: Job, result: Result) -> None:
        """Settle a job whose film is written, and let go of its state."""
        attempt = run.attempt
        found = None if attempt.lost else attempt.settle(job.id, queue.completed(job, result, attempt.seconds))
        if found is None:
            # It counts no more, and what was made is not left behind.
            attempt.jobs.pop(job.id, None)
            removed(job, result)
        elif run.batch:
            self._backend.artifacts.leave(job.id)
        elif len(run.slots) == 1:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        """Remove the state of a batch that is done, a sequence's pictures too; of a draft it is what it leaves."""
        if job.kind != "draft":
            self._backend.artifacts.forget(job.id)

    def _failed(self, attempt: Attempt, error: Exception, jobs: Sequence[Job]) -> None:
        """What an error makes of these of the jobs that are left."""
        text = "".join(traceback.format_exception(error))
        code = "out_of_memory" if ran_out(error) else "unexpected"
        for job in jobs:
            if job.id in attempt.jobs or job.id in attempt.aside:
                self._backend.artifacts.log(job.id, f"attempt {job.attempt} failed\n{text}")
                attempt.settle(job.id, queue.failed(job, error, attempt.seconds, code))

    def _apart(self, job: Job) -> int:
        """How far the seeds of other tries are apart: as many as one command asked for films."""
        if not job.thresholds or not job.leader:
            return 1
        return len(self._backend.ask(self._backend.store.find(Query(leader=job.leader, limit=_TOGETHER))))

    def _checkpointer(self, job: Job, attempt: Attempt, batch: str = "") -> Checkpointer:
        """Where the state of a job, or of its batch, is kept; a finished draft's own is gone on from, and stays."""
        artifacts = self._backend.artifacts
        also = [artifacts.checkpoint(job.parent)] if job.parent and job.kind != "extension" else []
        return Checkpointer(artifacts.made(batch or job.id) / CHECKPOINT, also=also, may=lambda: not attempt.lost)


def _written(run: _Run, job: Job, write: Write) -> Result:
    """The file of a film. Raises Cancelled where nobody wants it any more."""
    if job.kind != "draft" and run.attempt.unwanted(job.id):
        raise Cancelled
    return write()


def _wanted(run: _Run, number: int) -> bool:
    """Whether a film of a batch is still wanted, which is finished next if it is. Raises Cancelled for a runner that
    leaves: the others are finished by whoever takes them up."""
    run.watch.finishing, job = None, run.slots[number]
    if run.attempt.leaving and len(run.slots) > 1:
        raise Cancelled
    if run.attempt.unwanted(job.id):
        run.attempt.lay_down([job.id])
        return False
    run.watch.finishing = job
    return True


def run_options_for(jobs: Sequence[Job]) -> RunOptions:
    """What the films of jobs that run together need beside their Plans. Raises MediaError, WeightsError."""
    found = []
    for job in jobs:
        home = Path(job.model_dir) if job.model_dir else None
        run_options = run_options_of(job.plan, job.request, home, job.precision)
        found.append(replace(run_options, networks={digest: Path(path) for digest, path in job.networks.items()}))
    return _merged(found)


def _merged(found: Sequence[RunOptions]) -> RunOptions:
    sources = {digest: frames for run_options in found for digest, frames in run_options.sources.items()}
    networks = {digest: path for run_options in found for digest, path in run_options.networks.items()}
    return replace(found[0], sources=sources, networks=networks)


def _filled(run_options: RunOptions, slots: Sequence[Job]) -> RunOptions:
    """With something for every film of a batch to begin from: those that nobody wants any more need not be theirs."""
    begins = [job.plan.image or job.plan.video for job in slots]
    frames = next((run_options.sources[each] for each in begins if each in run_options.sources), None)
    if frames is None:
        return run_options
    return replace(run_options, sources=dict.fromkeys(begins, frames) | dict(run_options.sources))
