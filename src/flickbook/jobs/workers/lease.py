"""Renews the leases of running jobs and signals their runner to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.store.base import Job

logger = logging.getLogger(__name__)


class Attempt:
    """The leases of jobs that run together, renewed by a thread until each job is settled. A context manager.

    `jobs` are not finished yet; films of `aside` are complete and being written; `ended` are the settled ones,
    without jobs whose lease was lost. `stop` is checked at every step. `films` is the batch size, which divides the
    device time.
    """

    def __init__(
        self,
        backend: Backend,
        jobs: Sequence[Job],
        *,
        lease: float = LEASE,
        beat: float = BEAT,
        look: float = LOOK,
        films: int = 1,
    ) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.aside: dict[str, Job] = {}
        self.ended: list[Job] = []
        self.leaving = False
        self._backend, self._lease, self._beat, self._look, self._films = backend, lease, beat, look, films
        self._reached, self._lost = dict.fromkeys(self.jobs, 0.0), False
        self._over, self._lock = threading.Event(), threading.Lock()
        self._began = self._kept = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def stop(self, ids: Collection[str] | None = None) -> bool:
        """Whether the runner of these jobs, all by default, must stop: on request, because it is leaving, or for a lost
        lease.

        A job that must stop while others continue is released here.
        """
        if self.leaving or self.lost:
            return True
        left = list(self.jobs.values())
        requested = [job for job in left if job.wanted]
        chosen = [job for job in left if ids is None or job.id in ids]
        if len(requested) < len(left):
            self.release([job.id for job in requested])
        return bool(chosen) and all(job.wanted for job in chosen)

    @property
    def lost(self) -> bool:
        """Whether the leases are lost, so that results no longer count: another worker may have the jobs."""
        return self._lost or time.monotonic() - self._kept > self._lease

    def unwanted(self, id: str) -> bool:
        """Whether a job is cancelled or lost, so that its result is not needed even later."""
        job = self.jobs.get(id) or self.aside.get(id)
        return self.lost or job is None or job.wanted == "cancel"

    @property
    def seconds(self) -> float:
        """Device time of each job in seconds."""
        return (time.monotonic() - self._began) / self._films

    def report_progress(self, share: float, ids: Iterable[str] | None = None) -> None:
        """Sets the progress of these jobs, all by default, 0 to 1."""
        self._reached.update(dict.fromkeys(self._reached if ids is None else ids, share))

    def put_aside(self, id: str) -> None:
        """Marks a job's film as complete: `stop` ignores the job from now on, and it will be written and settled."""
        with self._lock:
            if id in self.jobs:
                self.aside[id] = self.jobs.pop(id)

    def settle(self, id: str, changes: Mapping[str, Any]) -> Job | None:
        """Settles a job; None if its lease was lost."""
        with self._lock:
            job = self.jobs.pop(id, None) or self.aside.pop(id, None)
        found = None if job is None else self._backend.ask(self._backend.store.settle(id, job.attempt, changes))
        self.ended += [] if found is None else [found]
        return found

    def release(self, ids: Collection[str] | None = None) -> list[Job]:
        """Releases these jobs, all unfinished ones by default, as requested; returns those whose lease was held."""
        with self._lock:
            left = [job for job in self.jobs.values() if ids is None or job.id in ids]
            left += [job for job in self.aside.values() if ids is not None and job.id in ids]
            for job in left:
                self.jobs.pop(job.id, None)
                self.aside.pop(job.id, None)
        ended = []
        for job in left:
            try:
                ended.append(self._backend.ask(self._backend.queue.release(job, self.seconds)))
            except FlickbookError as error:  # released when its lease expires
                logger.error("%s: %s", job.id, error)
        found = [job for job in ended if job is not None]
        self.ended += found
        return found

    def _keep(self) -> None:
        """Renews the leases every `beat` seconds and checks for requests every `look` seconds."""
        beaten = 0.0
        while not self._over.wait(self._look):
            now, failed = time.monotonic(), False
            beat = now - beaten > self._beat
            for job in [*self.jobs.values(), *self.aside.values()]:
                try:
                    self._visit(job, beat)
                except FlickbookError as error:
                    # A later heartbeat may still renew the lease; if not, `lost` becomes true.
                    logger.warning("the store does not respond: %s", error)
                    failed = True
            if beat:
                beaten = time.monotonic()
            if beat and not failed:
                self._kept = now

    def _visit(self, job: Job, beat: bool) -> None:
        store = self._backend.store
        if beat:
            found = self._backend.ask(store.renew(job.id, job.attempt, self._lease, self._reached[job.id]))
        else:
            found = self._backend.ask(store.get(job.id))
        with self._lock:
            held = self.aside if job.id in self.aside else self.jobs
            if job.id not in held:
                return  # settled meanwhile
            if found is None or found.attempt != job.attempt or found.state != "running":
                # Another worker has this job; the others of the batch are not affected.
                del held[job.id]
                self._lost = not self.jobs and not self.aside
                return
            held[job.id] = found
