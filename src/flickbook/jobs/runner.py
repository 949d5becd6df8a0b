"""Runs claimed jobs in this process: their films are made, written under names of this attempt, and settled.

Whatever happens, a job leaves here in a state that the store knows: done, failed with its reason, or laid down where it
is. Only a process that dies leaves it running, until its lease is over.
"""

from __future__ import annotations

import faulthandler
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from flickbook import formats
from flickbook.engine.checkpoint import Keeper
from flickbook.engine.draft import drafts
from flickbook.engine.films import Means, means_of
from flickbook.engine.ladder import ran_out
from flickbook.engine.retry import good_films
from flickbook.engine.treat import polish
from flickbook.errors import Cancelled, FlickbookError, OutputError, StoreError
from flickbook.files import sha256
from flickbook.jobs import queue
from flickbook.jobs.attempt import Attempt
from flickbook.jobs.desk import Desk
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.jobs.sequencing import sequence
from flickbook.jobs.shelf import CHECKPOINT, LOG
from flickbook.jobs.watch import OnStep, Watch
from flickbook.media.carried import carried
from flickbook.media.clip import Clip, sidecar_path
from flickbook.media.write import write
from flickbook.spec import Plan, Sidecar
from flickbook.store.base import Job, Query, Result

logger = logging.getLogger(__name__)
#: Films that one command makes at most.
_TOGETHER: Final = 1000
#: The name of a film that was sent to be gone on from.
PARENT: Final = "given-parent"


class Runner:
    """Makes what claimed jobs ask for. `lease`, `beat` and `look` are seconds."""

    def __init__(self, desk: Desk, *, lease: float = LEASE, beat: float = BEAT, look: float = LOOK) -> None:
        self._desk, self._times = desk, {"lease": lease, "beat": beat, "look": look}
        self._attempt: Attempt | None = None
        self._path_of: Callable[[Job, Clip], Path] | None = None
        self._leaving = False

    def leave(self) -> None:
        """Lay down what runs at its next step, and start nothing more."""
        self._leaving = True
        if self._attempt is not None:
            self._attempt.leaving = True

    def run(
        self,
        jobs: Sequence[Job],
        *,
        beside: Sequence[Job] = (),
        on_step: OnStep | None = None,
        previews: bool = False,
        strict: bool = False,
        path_of: Callable[[Job, Clip], Path] | None = None,
    ) -> list[Job]:
        """Run jobs of one shape that were claimed together; as what they ended, without those that count no more.

        `beside` are all jobs of their batch, in its order, where some are done: the batch decides the last bits.
        `on_step` is told of every Step, with `previews` those of the denoising carry theirs. With `strict` the error of
        a job that fails is raised once it is settled, and `path_of` says where a command's film goes. A
        KeyboardInterrupt lays down what is left, and is raised again.
        """
        self._path_of = path_of
        ended: list[Job] = []
        counted = True
        attempt = self._attempt = Attempt(self._desk, jobs, **self._times)
        attempt.leaving = self._leaving
        try:
            with attempt, self._logged(jobs[0]):
                try:
                    own = {job.id: job for job in jobs}
                    together = [own.get(job.id, job) for job in beside or jobs]
                    for job, result in self._made(attempt, together, on_step, previews):
                        done = self._settled(attempt, job, result)
                        ended, counted = ended + done, counted and bool(done)
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
                    ended += self._failed(attempt, error)
                    if strict:
                        raise
                else:
                    # What counts no more is somebody else's, who may go on from this state.
                    if counted:
                        self._forget((beside or jobs)[0])
                finally:
                    ended += attempt.lay_down()
        finally:
            self._attempt = None
        return ended

    def _settled(self, attempt: Attempt, job: Job, result: Result) -> list[Job]:
        """The job that is done; where that counts no more, what was made is not left behind."""
        found = None if attempt.lost else attempt.settle(job.id, queue.completed(job, result, attempt.seconds))
        if found is None:
            attempt.jobs.pop(job.id, None)
            self._remove(job, result)
            return []
        return [found]

    def _forget(self, job: Job) -> None:
        """Remove the state of a batch that is done, a sequence's pictures too; of a draft it is what it leaves."""
        if job.kind != "draft":
            self._desk.shelf.forget(job.id)

    def _remove(self, job: Job, result: Result) -> None:
        if job.home == "queue":
            for path in (Path(result.path), sidecar_path(result.path)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _failed(self, attempt: Attempt, error: Exception) -> list[Job]:
        """What an error makes of the jobs that are left: it is theirs alone."""
        text = "".join(traceback.format_exception(error))
        code = "out_of_memory" if ran_out(error) else "unexpected"
        ended = []
        for job in list(attempt.jobs.values()):
            self._desk.shelf.log(job.id, f"attempt {job.attempt} failed\n{text}")
            found = attempt.settle(job.id, queue.failed(job, error, attempt.seconds, code))
            ended += [] if found is None else [found]
        return ended

    @contextmanager
    def _logged(self, job: Job) -> Iterator[None]:
        """What the package logs goes to the job's log too, and what a crash of the process leaves."""
        with ExitStack() as stack:
            with suppress(OSError, OutputError):
                path = self._desk.shelf.made(job.id) / LOG
                file = open(path, "a", encoding="utf-8")  # noqa: SIM115
                stack.callback(_closed, file)
                handler = _Quiet(file)
                handler.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s"))
                handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
                package = logging.getLogger("flickbook")
                package.addHandler(handler)
                stack.callback(package.removeHandler, handler)
                if job.home == "queue":
                    faulthandler.enable(file)
                    stack.callback(faulthandler.enable)
            yield

    def _made(
        self, attempt: Attempt, jobs: Sequence[Job], on_step: OnStep | None, previews: bool
    ) -> Iterator[tuple[Job, Result]]:
        """What each job made that is not done, in their order. Raises Cancelled where they are to stop."""
        for job in list(attempt.jobs.values()):
            self._desk.shelf.tidy(job.id, job.attempt)
        first, plans, means = jobs[0], [job.plan for job in jobs], means_for(jobs)
        keeper = self._keeper(first, attempt)
        kept = keeper.look(plans)
        if kept is not None:  # what was decided then is decided again, so that no bit changes
            means = replace(means, placement=kept.placement.model_copy(update={"batch": len(jobs)}))
        watch = Watch(self._desk, attempt, jobs, means, on_step)

        def keep(some: Sequence[Plan]) -> Keeper:
            """A try with another seed has a state of its own."""
            if [plan.key() for plan in some] == [plan.key() for plan in plans] or first.kind == "draft":
                return keeper
            return Keeper(self._desk.shelf.attempt(first.id, some[0].key()), may=lambda: not attempt.lost)

        how: dict[str, Any] = {"on_step": watch, "cancel": attempt.stop, "keep": keep}
        if first.kind == "draft":
            draft = next(drafts(plans, means, until=first.until, **how))
            yield first, self._drafted(first, draft.frames, draft.fps)
            return
        if first.kind == "sequence":
            clips = iter([sequence(self._desk.shelf, first, means, watch, attempt.stop)])
        else:
            # Nobody looks at those of a command, but itself.
            how |= {"previews": previews or first.home == "queue", "apart": self._apart(first)}
            clips = good_films(plans, means, first.thresholds, first.retries, **how)
        for job, clip in zip(jobs, clips, strict=True):
            if job.id in attempt.jobs:
                with watch.writing():
                    result = self._written(attempt, job, clip)
                yield job, result

    def _apart(self, job: Job) -> int:
        """How far the seeds of other tries are apart: as many as one command asked for films."""
        if not job.thresholds or not job.leader:
            return 1
        return len(self._desk.ask(self._desk.store.find(Query(leader=job.leader, limit=_TOGETHER))))

    def _keeper(self, job: Job, attempt: Attempt) -> Keeper:
        """Where a job's state is kept; a finished draft's own is gone on from, and stays."""
        shelf = self._desk.shelf
        also = [shelf.checkpoint(job.parent)] if job.parent and job.kind != "extension" else []
        return Keeper(shelf.made(job.id) / CHECKPOINT, also=also, may=lambda: not attempt.lost)

    def _drafted(self, job: Job, frames: np.ndarray, fps: float) -> Result:
        """A draft as a moving picture; its latents stay where they are."""
        path = self._desk.shelf.film(job.id, job.attempt, ".webp")
        write(path, frames, fps, None, overwrite=True)
        return Result(path=str(path), bytes=path.stat().st_size, sha256=sha256(path))

    def _written(self, attempt: Attempt, job: Job, clip: Clip) -> Result:
        """A film as a file, under a name of this attempt or the one that its command was given."""
        if attempt.given_up:
            raise Cancelled
        if job.home == "command":
            path = Path(job.output) if self._path_of is None else self._path_of(job, clip)
            clip.save(path, overwrite=bool(job.overwrite) or _written_before(job, clip, path))
        else:
            path = self._desk.shelf.film(job.id, job.attempt, formats.FORMS[job.plan.container].suffixes[0])
            clip = self._joined(job, clip) if job.kind == "extension" else clip
            clip.save(path, overwrite=True)
        sidecar = Sidecar(recipe=clip.recipe, run=clip.run)
        if formats.is_frames(path):
            return Result(path=str(path), sidecar=sidecar)
        return Result(path=str(path.absolute()), bytes=path.stat().st_size, sha256=sha256(path), sidecar=sidecar)

    def _joined(self, job: Job, clip: Clip) -> Clip:
        """A film behind the one that it goes on from."""
        place = self._desk.shelf.of(job.id)
        before = next(iter(sorted(place.glob(f"{PARENT}.*"))), None)
        part = self._desk.shelf.film(job.id, job.attempt, "-part.mkv")
        try:
            clip.save(part, overwrite=True)
            encoding = job.plan.encoding()
            how = {} if encoding is None else encoding.model_dump()
            return polish(before or self._parent(job), join=[part], fit=True, **how)
        finally:
            part.unlink(missing_ok=True)
            sidecar_path(part).unlink(missing_ok=True)

    def _parent(self, job: Job) -> Path:
        parent = self._desk.ask(self._desk.queue.job(job.parent))
        if parent.result is None or not parent.result.path:
            raise OutputError(job.parent, "the film to go on from is gone", "extend another")
        return Path(parent.result.path)


def _written_before(job: Job, clip: Clip, path: Path) -> bool:
    """Whether the film at `path` is this one, which an attempt wrote that was killed before it could say so."""
    if job.attempt < 2 or clip.recipe is None:
        return False
    try:
        return carried(path)[0].frames_sha256 == clip.recipe.frames_sha256
    except FlickbookError:
        return False


def means_for(jobs: Sequence[Job]) -> Means:
    """What the films of jobs that run together need beside their Plans. Raises MediaError, WeightsError."""
    found = []
    for job in jobs:
        home = Path(job.model_dir) if job.model_dir else None
        means = means_of(job.plan, job.request, home, job.precision)
        found.append(replace(means, networks={digest: Path(path) for digest, path in job.networks.items()}))
    sources = {digest: frames for means in found for digest, frames in means.sources.items()}
    networks = {digest: path for means in found for digest, path in means.networks.items()}
    return replace(found[0], sources=sources, networks=networks)


class _Quiet(logging.StreamHandler[TextIO]):
    """A log on a full disk is no reason to stop."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without this line."""


def _closed(file: TextIO) -> None:
    """Close a log; what could not be written is lost."""
    with suppress(OSError):
        file.close()
