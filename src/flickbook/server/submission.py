"""From a request that was understood to a job that is kept: the same key gives the same job, and no file is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from fastapi import Header, HTTPException, Response
from starlette.requests import Request as HttpRequest

from flickbook.errors import JobConflict, JobNotFound, LimitReached, ModelNotPulled, RequestError
from flickbook.server import media
from flickbook.server.availability import require_models
from flickbook.server.service import Service
from flickbook.store.base import DONE, Job, new_id

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="The same key with the same request gives the job of the first time.",
    ),
]
#: Seconds between two looks at a job that somebody waits for.
_LOOK: Final = 0.08
_ANOTHER: Final = "send another key, or the same request"
_AGAIN: Final = {"retry-after": "5"}
#: How long the store is asked to stop what nobody waits for any more.
_PATIENCE: Final = 10.0


async def submitted(service: Service, make: Callable[[str], Job], *, seeded: bool = True) -> Job:
    """Keep the job that `make` makes of an id, in a thread, with what it begins from on the shelf.

    Where its key was used before, the job of then is given back; `seeded` is whether the request named a seed. Raises
    RequestError where that job is of another request, LimitReached, ModelNotPulled.
    """
    id = new_id("job")
    try:
        job = (await asyncio.to_thread(make, id)).model_copy(update={"id": id})
    except Exception:
        await asyncio.to_thread(service.shelf.clear, id)
        raise
    try:
        await require_models(service, [job])
        (found,) = await service.queue.submit([job])
    except (LimitReached, ModelNotPulled):  # of any other failure it is not known whether the job was kept
        await asyncio.to_thread(service.shelf.clear, id)
        raise
    if found.id != id:
        await asyncio.to_thread(service.shelf.clear, id)
        if not _same(found, job, seeded):
            raise _other(job.key)
    return found


async def together(service: Service, jobs: list[Job], seeded: Sequence[bool]) -> list[Job]:
    """Keep jobs, all or none; those whose keys were used before are those of then, as `submitted` has it.

    `seeded` says of each whether its seed was named. Raises RequestError where one is of another request, and nothing
    new stays then, LimitReached, ModelNotPulled.
    """
    await require_models(service, jobs)
    found = await service.queue.submit(jobs)
    for there, job, named in zip(found, jobs, seeded, strict=True):
        if there.id != job.id and not _same(there, job, named):
            ids = {each.id for each in jobs}
            await dropped(service, [each for each in found if each.id in ids])
            raise _other(job.key)
    return found


def _other(key: str) -> RequestError:
    return RequestError("Idempotency-Key", key, "was sent before with another request", _ANOTHER)


def _same(found: Job, job: Job, seeded: bool) -> bool:
    """Whether two requests ask for the same: what they make says so, however it was written, but for a drawn seed."""
    plan = job.plan if seeded else job.plan.model_copy(update={"seed": found.plan.seed})
    return (found.kind, found.parent, found.plan) == (job.kind, job.parent, plan)


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
    return media.film_of(service, job)
