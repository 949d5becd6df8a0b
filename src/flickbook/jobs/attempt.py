"""Claimed jobs while they run: their leases are kept, and whoever runs them learns of it when they are to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from flickbook.errors import FlickbookError
from flickbook.jobs.desk import Desk
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.store.base import Job

logger = logging.getLogger(__name__)


class Attempt:
    """The leases of jobs that run together, kept by a thread until they are settled one after the other.

    `stop` says at every step whether to go on. Use as a context manager.
    """

    def __init__(
        self, desk: Desk, jobs: Sequence[Job], *, lease: float = LEASE, beat: float = BEAT, look: float = LOOK
    ) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.leaving = False
        self._desk, self._lease, self._beat, self._look = desk, lease, beat, look
        self._reached, self._lost = dict.fromkeys(self.jobs, 0.0), False
        self._over, self._lock = threading.Event(), threading.Lock()
        self._began = self._kept = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def stop(self) -> bool:
        """Whether the runner must stop: for a wish, for its own end, or because its lease is somebody else's."""
        return self.leaving or self.lost or any(job.wanted for job in self.jobs.values())

    @property
    def lost(self) -> bool:
        """Whether nothing that is made now counts: another may have the job by now."""
        return self._lost or time.monotonic() - self._kept > self._lease

    @property
    def given_up(self) -> bool:
        """Whether nothing of this is wanted any more, not even later."""
        return self.lost or any(job.wanted == "cancel" for job in list(self.jobs.values()))

    @property
    def seconds(self) -> float:
        """How long it runs."""
        return time.monotonic() - self._began

    def reach(self, share: float) -> None:
        """Say how far all of it is, 0 to 1."""
        self._reached = dict.fromkeys(self._reached, share)

    def settle(self, id: str, changes: Mapping[str, Any]) -> Job | None:
        """End one of the jobs; None if that counts no more."""
        with self._lock:
            job = self.jobs.pop(id)
        return self._desk.ask(self._desk.store.settle(id, job.attempt, changes))

    def lay_down(self) -> list[Job]:
        """End all that are left as it is wanted of them; those that counted."""
        with self._lock:
            left, seconds = list(self.jobs.values()), self.seconds
            self.jobs.clear()
        found = []
        for job in left:
            try:
                found.append(self._desk.ask(self._desk.queue.lay_down(job, seconds)))
            except FlickbookError as error:  # free when its lease is over
                logger.error("%s: %s", job.id, error)
        return [job for job in found if job is not None]

    def _keep(self) -> None:
        """Renew the leases every `beat` seconds, and look every `look` what is wanted."""
        beaten = 0.0
        while not self._over.wait(self._look):
            beat = time.monotonic() - beaten > self._beat
            for job in list(self.jobs.values()):
                try:
                    self._visit(job, beat)
                except FlickbookError as error:
                    # The lease may still be kept by a later beat; where it is not, `lost` says so.
                    logger.warning("the store does not answer: %s", error)
            if beat:
                beaten = time.monotonic()

    def _visit(self, job: Job, beat: bool) -> None:
        store, asked = self._desk.store, time.monotonic()
        if beat:
            found = self._desk.ask(store.renew(job.id, job.attempt, self._lease, self._reached[job.id]))
        else:
            found = self._desk.ask(store.get(job.id))
        with self._lock:
            if job.id not in self.jobs:
                return  # settled meanwhile
            if found is None or found.attempt != job.attempt or found.state != "running":
                self._lost = True
                return
            self.jobs[job.id] = found
        if beat:
            self._kept = asked
