"""Submits jobs to the queue: idempotently, and without leaving files behind on failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from fastapi import HTTPException, Response
from starlette.requests import Request as HttpRequest

from flickbook.errors import IdempotencyKeyReused, JobConflict, JobNotFound, LimitReached, ModelNotPulled
from flickbook.server.api import job_files
from flickbook.server.service import Service
from flickbook.server.submission.availability import require_models
from flickbook.server.submission.idempotency import Idempotency
from flickbook.server.submission.uploads import READERS
from flickbook.store.base import DONE, Job, new_id

#: Seconds between two looks at a job that a client waits for.
_LOOK: Final = 0.08
_AGAIN: Final = {"retry-after": "5"}
#: The lock of each Idempotency-Key with a request in progress, by its scope.
_TURNS: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()
#: Seconds to wait for the stop of an abandoned job.
_PATIENCE: Final = 10.0


async def submitted(service: Service, make: Callable[[str], Job], idempotency: Idempotency | None = None) -> Job:
    """Submit the job that `make` creates for an id. `make` runs in a thread and stores the input files.

    An equal request under the same Idempotency-Key returns the same job. Raises IdempotencyKeyReused, LimitReached,
    ModelNotPulled.
    """
    async with _turn(idempotency):
        if idempotency is not None and (before := await idempotency.jobs(service)):
            return before[0]
        return await _submitted(service, make, idempotency)


async def _submitted(service: Service, make: Callable[[str], Job], idempotency: Idempotency | None) -> Job:
    id = new_id("job")
    try:
        # Reads the uploaded files, which may take as long as their limits allow.
        made = await asyncio.get_running_loop().run_in_executor(READERS, make, id)
        job = made.model_copy(update={"id": id})
    except Exception:
        await asyncio.to_thread(service.artifacts.clear, id)
        raise
    try:
        (found,) = await _kept(service, [job], idempotency)
    # After any other failure it is unknown whether the job was stored.
    except (LimitReached, IdempotencyKeyReused, ModelNotPulled):
        await asyncio.to_thread(service.artifacts.clear, id)
        raise
    if found.id != id:
        await asyncio.to_thread(service.artifacts.clear, id)
    return found


async def together(
    service: Service, make: Callable[[], Awaitable[list[Job]]], idempotency: Idempotency | None
) -> list[Job]:
    """Submit the jobs that `make` creates, all or none; `submitted` for several jobs."""
    async with _turn(idempotency):
        if idempotency is not None and (before := await idempotency.jobs(service)):
            return before
        return await _kept(service, await make(), idempotency)


@asynccontextmanager
async def _turn(idempotency: Idempotency | None) -> AsyncIterator[None]:
    """Make equal keys of this process wait for each other, so that only the first request reads its files."""
    if idempotency is None:
        yield
        return
    lock = _TURNS.setdefault(idempotency.scope, asyncio.Lock())
    async with lock:
        yield


async def _kept(service: Service, jobs: list[Job], idempotency: Idempotency | None) -> list[Job]:
    await require_models(service, jobs)
    if idempotency is None:
        return await service.queue.submit(jobs)
    return await idempotency.submit(service, jobs)


async def ended(service: Service, request: HttpRequest, jobs: list[Job], *, keep: bool) -> list[Job]:
    """Wait until all jobs are done. If the client disconnects, return an empty list; unless `keep` is set (for requests
    with an Idempotency-Key), also stop and delete the jobs.

    Raises JobNotFound for a job that was deleted, and HTTPException 503 if the service is stopping.
    """
    while True:
        found = [await service.store.get(job.id) for job in jobs]
        here = [job for job in found if job is not None]
        if len(here) < len(jobs):
            raise JobNotFound(jobs[0].id)
        if all(job.state in DONE for job in here):
            return here
        check_open(request)
        if await request.is_disconnected():
            if not keep:
                await asyncio.shield(dropped(service, jobs))
            return []
        await asyncio.sleep(_LOOK)


def closing(request: HttpRequest) -> bool:
    """Whether the service is stopping; running jobs then continue after the restart."""
    event = request.app.state.closing
    return isinstance(event, asyncio.Event) and event.is_set()


def check_open(request: HttpRequest) -> None:
    """Raise HTTPException 503 if the service is stopping."""
    if closing(request):
        raise HTTPException(503, "the service is stopping; the job runs when it is back", _AGAIN)


def hung_up() -> Response:
    """Return the response for a client that disconnected."""
    return Response(status_code=499)


async def dropped(service: Service, jobs: list[Job]) -> None:
    """Stop and delete abandoned jobs."""
    for job in jobs:
        with suppress(JobNotFound, JobConflict):
            await service.queue.remove(job.id, patience=_PATIENCE)


def film_path(service: Service, job: Job, id: str) -> Path:
    """Return the file that a job made; only files in the artifact store are served. Clients know the job as `id`.

    Raises JobConflict while the job is not completed, and for a file that a command wrote elsewhere.
    """
    if job.state != "completed" or job.result is None:
        raise JobConflict(id, job.state, "downloaded", "try again when its status is completed")
    if job.home == "command":
        raise JobConflict(id, job.state, "downloaded", "was written to a file of the command that made it")
    return job_files.film_of(service, job)
