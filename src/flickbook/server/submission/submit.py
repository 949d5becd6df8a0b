"""From a request that was understood to a job that is kept: the same key gives the same job, and no file is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastapi import HTTPException, Response
from starlette.requests import Request as HttpRequest

from flickbook.errors import IdempotencyKeyReused, JobConflict, JobNotFound, LimitReached, ModelNotPulled
from flickbook.server.api import job_files
from flickbook.server.service import Service
from flickbook.server.submission.availability import require_models
from flickbook.server.submission.idempotency import Idempotency
from flickbook.server.submission.uploads import READERS
from flickbook.store.base import DONE, Job, new_id

#: Seconds between two looks at a job that somebody waits for.
_LOOK: Final = 0.08
_AGAIN: Final = {"retry-after": "5"}
#: How long the store is asked to stop what nobody waits for any more.
_PATIENCE: Final = 10.0


async def submitted(service: Service, make: Callable[[str], Job], idempotency: Idempotency | None = None) -> Job:
    """Keep the job that `make` makes of an id, in a thread, with what it begins from on the shelf.

    An equal request under the same Idempotency-Key gives the same job. Raises IdempotencyKeyReused, LimitReached,
    ModelNotPulled.
    """
    if idempotency is not None and (before := await idempotency.jobs(service)):
        return before[0]
    id = new_id("job")
    try:
        # What was sent is read meanwhile, which may take as long as a file lets it.
        made = await asyncio.get_running_loop().run_in_executor(READERS, make, id)
        job = made.model_copy(update={"id": id})
    except Exception:
        await asyncio.to_thread(service.artifacts.clear, id)
        raise
    try:
        (found,) = await _kept(service, [job], idempotency)
    # Of any other failure it is not known whether the job was kept.
    except (LimitReached, IdempotencyKeyReused, ModelNotPulled):
        await asyncio.to_thread(service.artifacts.clear, id)
        raise
    if found.id != id:
        await asyncio.to_thread(service.artifacts.clear, id)
    return found


async def together(
    service: Service, make: Callable[[], Awaitable[list[Job]]], idempotency: Idempotency | None
) -> list[Job]:
    """Keep the jobs that `make` makes, all or none; `submitted` for several."""
    if idempotency is not None and (before := await idempotency.jobs(service)):
        return before
    return await _kept(service, await make(), idempotency)


async def _kept(service: Service, jobs: list[Job], idempotency: Idempotency | None) -> list[Job]:
    await require_models(service, jobs)
    if idempotency is None:
        return await service.queue.submit(jobs)
    return await idempotency.submit(service, jobs)


async def ended(service: Service, request: HttpRequest, jobs: list[Job], *, keep: bool) -> list[Job]:
    """Jobs once they are all done. Where the client goes away there are none, and unless they are to be kept, as for
    one who has a key to come again with, they are stopped and forgotten.

    Raises JobNotFound for one that somebody deleted, HTTPException 503 where the service ends.
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
    """Whether the service is about to end: what is being made then is made later, and not given up."""
    told = request.app.state.closing
    return isinstance(told, asyncio.Event) and told.is_set()


def check_open(request: HttpRequest) -> None:
    """Raises HTTPException 503 where the service is about to end."""
    if closing(request):
        raise HTTPException(503, "the service is stopping; what was asked for is made when it is back", _AGAIN)


def hung_up() -> Response:
    """An answer that nobody reads."""
    return Response(status_code=499)


async def dropped(service: Service, jobs: list[Job]) -> None:
    """Stop and forget jobs that nobody waits for."""
    for job in jobs:
        with suppress(JobNotFound, JobConflict):
            await service.queue.remove(job.id, patience=_PATIENCE)


def film_path(service: Service, job: Job, id: str) -> Path:
    """The file that a job made, which a client knows by `id`; only files on the shelf are ever served.

    Raises JobConflict while it is not completed, and for what a command wrote elsewhere.
    """
    if job.state != "completed" or job.result is None:
        raise JobConflict(id, job.state, "downloaded", "ask for it when its status is completed")
    if job.home == "command":
        raise JobConflict(id, job.state, "downloaded", "its command wrote it to a file of its own")
    return job_files.film_of(service, job)
