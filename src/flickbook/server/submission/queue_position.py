"""The place of each job in the queue, and its remaining time.

One query of the store serves all requests within a second, and requests during a new query get the last result. A
client that polls a job thus costs no more than reading the job itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from flickbook.errors import FlickbookError
from flickbook.jobs import eta
from flickbook.jobs.queue import Queue
from flickbook.store.base import Job, Query

#: Seconds for which a snapshot is valid, and for which the durations of past jobs are.
_GOOD: Final = 1.0
_LEARNED: Final = 10.0
#: The most queued jobs that are looked at one by one; jobs further back have no place.
_MOST: Final = 200

logger = logging.getLogger(__name__)


@dataclass
class Look:
    """A snapshot of the queue: for each queued job, by id, its place (from 1) and the seconds until it is done.
    `seconds` is the time until all jobs are done, None if unknown; `owners` is the same for the jobs of each owner."""

    at: float = -_GOOD
    places: dict[str, int] = field(default_factory=dict)
    etas: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    owners: dict[str, float | None] = field(default_factory=dict)

    def note(self, owner: str, seconds: float | None) -> None:
        """Count a job of an owner that will be done in `seconds`, None if unknown."""
        last = self.owners.get(owner, 0.0)
        self.owners[owner] = None if last is None or seconds is None else max(last, seconds)


class Line:
    """The places and remaining times of one service's queue."""

    def __init__(self, queue: Queue, workers: Callable[[], Awaitable[int]]) -> None:
        """`workers` returns how many workers share the queue now."""
        self._queue, self._workers = queue, workers
        self._look = Look()
        self._past: tuple[float, list[eta.Past]] = (-_LEARNED, [])
        self._next: asyncio.Task[None] | None = None

    async def look(self) -> Look:
        """Return a snapshot that is at most a few seconds old."""
        age = time.monotonic() - self._look.at
        if age > _GOOD and (self._next is None or self._next.done()):
            self._next = asyncio.create_task(self._take())
        if age > 3 * _GOOD and self._next is not None:
            await asyncio.shield(self._next)
        return self._look

    async def of(self, job: Job) -> tuple[int | None, float | None]:
        """Return the place of a job and the seconds until it is done, None if unknown."""
        if job.state != "queued":
            return None, None
        look = await self.look()
        return look.places.get(job.id), look.etas.get(job.id)

    async def _take(self) -> None:
        try:
            self._look = await self._taken()
        except FlickbookError as error:
            logger.warning("the queue cannot be read: %s", error)

    async def _taken(self) -> Look:
        now = time.monotonic()
        if now - self._past[0] > _LEARNED:
            self._past = (now, await eta.history(self._queue))
        find, workers = self._queue.store.find, max(1, await self._workers())
        look, known, busy = Look(now), True, dict[str, float]()
        for job in await find(Query(states=("running",), limit=_MOST)):
            left = self._queue.artifacts.progress(job.id).get("eta_seconds")
            seconds = float(left) if isinstance(left, int | float) else self._expected(job)
            # The jobs of one worker run together in a batch.
            busy[job.worker] = max(busy.get(job.worker, 0.0), seconds or 0.0)
            look.note(job.owner, seconds)
            known = known and seconds is not None
        ahead = sum(busy.values())
        for place, job in enumerate(await find(Query(states=("queued",), order="queue", limit=_MOST)), 1):
            look.places[job.id] = place
            own = self._expected(job)
            known = known and own is not None
            if known and own is not None:
                look.etas[job.id] = ahead / workers + own
                ahead += own / eta.parallel_films(job.plan, self._past[1])
            look.note(job.owner, look.etas.get(job.id))
        behind = (await self._queue.store.counts())["queued"] - len(look.places)
        if known:
            # Jobs that are too far back are assumed to take as long as the others.
            usual = sum(look.etas.values()) and ahead / max(1, len(look.etas))
            look.seconds = (ahead + max(0, behind) * usual) / workers
        return look

    def _expected(self, job: Job) -> float | None:
        found = eta.expected(job.plan, self._past[1], warm=True)
        if found is None:
            return None
        return sum(found.values()) - (1 - job.until) * found["denoise"]


def line_of(request: Request) -> Line:
    """Return the Line of the request's service."""
    found: Line = request.app.state.line
    return found
