"""Server-sent events about one job, or about all jobs of a caller.

Events carry states, not differences: a client that reconnects receives the current state, and with `Last-Event-ID`
skips events that it has already received. Streams of one job share one poll of the store. A job is polled at most five
times a second, however many streams there are, and all jobs together a hundred times a second.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from flickbook.errors import FlickbookError, LimitReached
from flickbook.jobs.artifacts import PREVIEW, PROGRESS, ArtifactStore
from flickbook.server.access.dependencies import Reader, guard_of
from flickbook.server.api.responses import ROOT, JobResponse, job_response, progress
from flickbook.server.errors import refusals
from flickbook.server.service import Service, service_of
from flickbook.store import base
from flickbook.store.base import DONE, Job

LastId = Annotated[
    str | None, Header(alias="Last-Event-ID", max_length=200, description="Id of the last event received")
]
#: The most open streams, seconds between two polls of a job, polls per second of all streams, and seconds between
#: two polls of all jobs.
STREAMS: Final = 2000
LOOK: Final = 0.2
_LOOKS: Final = 100
_LOOK_AT_ALL: Final = 1.0
#: Seconds between two checks that the caller of a stream is still admitted.
RECHECK: Final = 10.0
#: The most jobs in each state that a stream of all jobs follows.
_FOLLOWED: Final = 200
#: Milliseconds until a browser reconnects, while the stream is open and after its end.
_RETRY: Final = 2000
_NEVER: Final = 3_600_000
_SEEN: Final = re.compile(r"([a-z]{1,12}-[0-9]{1,9}-[a-z]{0,8})\.([0-9]{1,20})\.([0-9]{1,20})")
_MOMENT: Final = re.compile(r"[0-9]{1,12}\.[0-9]{3}")
logger = logging.getLogger(__name__)
router = APIRouter(tags=["events"])


@dataclass(frozen=True)
class Seen:
    """A snapshot of a job, with the times at which its progress and its preview were written."""

    job: Job | None
    progress: int = 0
    preview: int = 0

    @property
    def state(self) -> str:
        """The state, attempt and requested action as one word; a change of it is an event."""
        return "" if self.job is None else _state(self.job)

    def id(self) -> str:
        """The id of the event, which the client sends as Last-Event-ID when it reconnects."""
        return f"{self.state}.{self.progress}.{self.preview}"


def _state(job: Job) -> str:
    return f"{job.state}-{job.attempt}-{job.wanted}"


@dataclass
class Watch:
    """A poll that several streams share. `seen` is the latest snapshot; `news` is set when there is a newer one."""

    seen: Any = None
    streams: int = 0
    over: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def show(self, seen: Any) -> None:
        """Publish a snapshot to the streams."""
        self.seen = seen
        before, self.news = self.news, asyncio.Event()
        before.set()


class Watches:
    """The polls of one service, by job id, or by owner for all jobs."""

    def __init__(self, service: Service, closing: asyncio.Event) -> None:
        self.service, self._closing = service, closing
        self.watches: dict[object, Watch] = {}

    @asynccontextmanager
    async def of(self, key: object, look: Callable[[Watch], Coroutine[Any, Any, None]]) -> AsyncIterator[Watch]:
        """Share the poll of a key and run it while it is used. Raises LimitReached if too many streams are open."""
        if sum(watch.streams for watch in self.watches.values()) >= STREAMS:
            raise LimitReached("events", STREAMS, "event streams are open already", "close one, or try again", 5.0)
        watch = self.watches.get(key)
        if watch is None or watch.over:
            watch = self.watches[key] = Watch()
            watch.task = asyncio.create_task(self._run(watch, look))
        watch.streams += 1
        try:
            yield watch
        finally:
            watch.streams -= 1
            if not watch.streams and watch.task is not None:
                watch.task.cancel()
                if self.watches.get(key) is watch:
                    del self.watches[key]

    async def _run(self, watch: Watch, look: Callable[[Watch], Coroutine[Any, Any, None]]) -> None:
        try:
            while not watch.over and not self._closing.is_set():
                with suppress(FlickbookError):  # the store may recover
                    await look(watch)
                if not watch.over:
                    usual = LOOK if isinstance(watch.seen, Seen) else _LOOK_AT_ALL
                    await asyncio.sleep(max(usual, len(self.watches) / _LOOKS))
        except Exception:
            logger.exception("a stream of events ends")
        finally:
            watch.over = True
            watch.show(watch.seen)

    async def job(self, watch: Watch, id: str) -> None:
        """Poll one job."""
        job = await self.service.store.get(id)
        artifacts = self.service.artifacts
        seen = (
            Seen(job, _progressed(artifacts, job), _written(artifacts.shown(id, PREVIEW)))
            if job is not None
            else Seen(None)
        )
        watch.over = job is None or job.state in DONE
        if seen != watch.seen:
            watch.show(seen)


def _progressed(artifacts: ArtifactStore, job: Job) -> int:
    """Return when a job's progress was written; for a queued job, that of its model's download."""
    waits = job.state == "queued" and not job.model_dir
    return _written(artifacts.pull_file(job.plan.model) if waits else artifacts.shown(job.id, PROGRESS))


def _written(path: os.PathLike[str]) -> int:
    """Return when a file was written, in milliseconds; 0 if it does not exist."""
    try:
        return os.stat(path).st_mtime_ns // 1_000_000
    except OSError:
        return 0


def watches_of(request: Request) -> Watches:
    """Return the polls of the request's service."""
    found: Watches = request.app.state.watches
    return found


async def _watched(id: str, request: Request, caller: Reader) -> AsyncIterator[Watch]:
    """Share the poll of a job until the stream ends."""
    await service_of(request).queue.job(id, caller.sees)
    watches = watches_of(request)
    async with watches.of(id, lambda watch: watches.job(watch, id)) as watch:
        yield watch


@router.get(
    f"{ROOT}/jobs/{{id}}/events",
    operation_id="job_events",
    response_class=EventSourceResponse,
    responses=refusals(404),
)
async def job_events(
    id: str,
    request: Request,
    watch: Annotated[Watch, Depends(_watched)],
    last_event_id: LastId = None,
    previews: Annotated[bool, Query(description="Include previews as animated WebP in base64")] = False,
) -> AsyncIterable[ServerSentEvent]:
    """Stream the events of a job: `state`, `progress`, `preview` and `done`. The stream ends after `done` or
    `deleted`."""
    service = service_of(request)
    match = _SEEN.fullmatch(last_event_id or "")
    state, moved, shown = (match[1], int(match[2]), int(match[3])) if match else ("", 0, 0)
    admission = _Admission(request)
    while True:
        seen, news, over = watch.seen, watch.news, watch.over
        job = None if seen is None else seen.job
        if seen is not None and job is None:
            yield ServerSentEvent(event="deleted", data={"id": id}, retry=_NEVER)
            return
        if job is not None:
            if seen.state != state and job.state not in DONE:
                yield ServerSentEvent(event="state", id=seen.id(), data=await _response(service, job), retry=_RETRY)
            running = job.state == "running"
            moving = running or job.state == "queued"
            if moving and seen.progress != moved and (now := progress(service.artifacts, job)) is not None:
                yield ServerSentEvent(event="progress", id=seen.id(), data={"id": id, **now.model_dump()})
            if previews and running:
                service.artifacts.watch(id)
                if seen.preview != shown and (picture := await asyncio.to_thread(service.artifacts.preview, id)):
                    yield ServerSentEvent(event="preview", id=seen.id(), data=_preview(id, picture))
            if job.state in DONE:
                yield ServerSentEvent(event="done", id=seen.id(), data=await _response(service, job), retry=_NEVER)
                return
            state, moved, shown = seen.state, seen.progress, seen.preview
        if over:
            return  # the service is stopping; the client reconnects
        if not await admission.wait(news):
            return


@dataclass
class _Admission:
    """The admission of a stream's caller. A stream ends with its API key or its session."""

    request: Request
    checked: float = field(default_factory=time.monotonic)

    async def wait(self, news: asyncio.Event) -> bool:
        """Wait for news. Return False once the caller is no longer admitted."""
        while True:
            left = self.checked + RECHECK - time.monotonic()
            if left > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), left)
                    return True
            elif await guard_of(self.request).still_admits(self.request.scope):
                self.checked = time.monotonic()
            else:
                return False


async def _response(service: Service, job: Job) -> JobResponse:
    return job_response(service.artifacts, job, favourites=await service.queue.favourites([job]))


def _preview(id: str, picture: bytes) -> dict[str, str]:
    return {"id": id, "media_type": "image/webp", "base64": base64.b64encode(picture).decode("ascii")}


@dataclass(frozen=True)
class All:
    """All unfinished jobs that a caller sees, by id, and the time of the snapshot."""

    jobs: dict[str, Job]
    progress: dict[str, int]
    at: float


async def _look_at_all(watches: Watches, watch: Watch, owner: str | None) -> None:
    service = watches.service
    at, jobs = time.time(), dict[str, Job]()
    for states in (("running",), ("queued", "paused")):
        query = base.Query(owner=owner, states=states, order="queue", limit=_FOLLOWED)
        jobs |= {job.id: job for job in await service.store.find(query)}
    written = {id: _progressed(service.artifacts, job) for id, job in jobs.items() if job.state != "paused"}
    before = watch.seen
    now = All(jobs, written, at)
    if before is None or _states(before) != _states(now) or before.progress != now.progress:
        watch.show(now)


def _states(seen: All) -> dict[str, str]:
    return {id: _state(job) for id, job in seen.jobs.items()}


async def _all_watched(request: Request, caller: Reader) -> AsyncIterator[tuple[Watch, str | None]]:
    watches, owner = watches_of(request), caller.sees
    async with watches.of(("all", owner), lambda watch: _look_at_all(watches, watch, owner)) as watch:
        yield watch, owner


@router.get(f"{ROOT}/events", operation_id="events", response_class=EventSourceResponse, responses=refusals())
async def events(
    request: Request,
    found: Annotated[tuple[Watch, str | None], Depends(_all_watched)],
    last_event_id: LastId = None,
) -> AsyncIterable[ServerSentEvent]:
    """Stream the events of all your jobs: `state`, `progress`, `done` and `deleted`. The stream does not end."""
    service, (watch, owner) = service_of(request), found
    states: dict[str, str] = {}
    moved: dict[str, int] = {}
    admission = _Admission(request)
    if last_event_id is not None and _MOMENT.fullmatch(last_event_id):
        # Jobs that ended since the last event that the client received.
        query = base.Query(owner=owner, states=DONE, finished_since=float(last_event_id), order="old")
        missed = await service.store.find(query)
        favourites = await service.queue.favourites(missed)
        for job in missed:
            data = job_response(service.artifacts, job, favourites=favourites)
            yield ServerSentEvent(event="done", id=last_event_id, data=data)
    while True:
        seen, news, over = watch.seen, watch.news, watch.over
        if seen is not None:
            id = f"{seen.at:.3f}"
            changed = {job.id: job for job in seen.jobs.values() if states.get(job.id) != _state(job)}
            favourites = await service.queue.favourites([*changed.values()])
            for job in seen.jobs.values():
                if job.id in changed:
                    data = job_response(service.artifacts, job, favourites=favourites)
                    yield ServerSentEvent(event="state", id=id, data=data, retry=_RETRY)
                if seen.progress.get(job.id, 0) != moved.get(job.id, 0) and (now := progress(service.artifacts, job)):
                    yield ServerSentEvent(event="progress", id=id, data={"id": job.id, **now.model_dump()})
            for gone in states.keys() - seen.jobs.keys():
                ended = await service.store.get(gone)
                if ended is None:
                    yield ServerSentEvent(event="deleted", id=id, data={"id": gone})
                elif ended.state in DONE:
                    yield ServerSentEvent(event="done", id=id, data=await _response(service, ended))
            states, moved = _states(seen), dict(seen.progress)
        if over:
            return
        if not await admission.wait(news):
            return
