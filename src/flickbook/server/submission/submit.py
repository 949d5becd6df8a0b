"""Submits jobs to the queue: idempotently, with their models present, and without leaving files behind on failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from fastapi import HTTPException, Response
from starlette.requests import Request as HttpRequest

from flickbook import catalogue
from flickbook.errors import IdempotencyKeyReused, JobConflict, JobNotFound, LimitReached, ModelNotPulled
from flickbook.hub.find import directory
from flickbook.server.api import job_files
from flickbook.server.errors import pull_path
from flickbook.server.service import Service
from flickbook.server.submission.idempotency import Idempotency
from flickbook.server.submission.uploads import READERS
from flickbook.store.base import DONE, Job, new_id

#: Returns the id of a new job, in whose directory its input files are stored.
NewPlace = Callable[[], str]
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

    def one(place: NewPlace) -> list[Job]:
        id = place()
        return [make(id).model_copy(update={"id": id})]

    (found, *_) = await several(service, one, idempotency)
    return found


async def several(
    service: Service, make: Callable[[NewPlace], list[Job]], idempotency: Idempotency | None = None
) -> list[Job]:
    """Submit the jobs that `make` creates, all or none; `submitted` for several jobs.

    `make` calls its argument for the id of each job whose input files it stores.
    """
    ids = list[str]()

    def place() -> str:
        ids.append(new_id("job"))
        return ids[-1]

    def stored() -> list[Job]:
        jobs = make(place)
        for id in ids:
            service.artifacts.upload(id)
        return jobs

    def clear() -> None:
        for id in ids:
            service.artifacts.clear(id)

    async def made() -> list[Job]:
        try:
            # Reads the uploaded files, which may take as long as their limits allow.
            return await asyncio.get_running_loop().run_in_executor(READERS, stored)
        except Exception:
            await asyncio.to_thread(clear)
            raise

    try:
        found = await together(service, made, idempotency)
    # After any other failure it is unknown whether the jobs were stored.
    except (LimitReached, IdempotencyKeyReused, ModelNotPulled):
        await asyncio.to_thread(clear)
        raise
    if not {job.id for job in found}.issuperset(ids):
        await asyncio.to_thread(clear)
    return found


async def together(
    service: Service, make: Callable[[], Awaitable[list[Job]]], idempotency: Idempotency | None
) -> list[Job]:
    """Submit the jobs that `make` creates, all or none, if it stores no files."""
    async with _turn(idempotency):
        if idempotency is not None and (before := await idempotency.jobs(service)):
            return before
        jobs = await make()
        await require_models(service, jobs)
        return await (service.queue.submit(jobs) if idempotency is None else idempotency.submit(service, jobs))


@asynccontextmanager
async def _turn(idempotency: Idempotency | None) -> AsyncIterator[None]:
    """Make equal keys of this process wait for each other, so that only the first request reads its files."""
    if idempotency is None:
        yield
        return
    lock = _TURNS.setdefault(idempotency.scope, asyncio.Lock())
    async with lock:
        yield


async def require_models(service: Service, jobs: Iterable[Job]) -> None:
    """Refuse jobs whose model is not on this machine.

    If the setting `pull` is auto, such jobs are accepted and the service downloads their models. Raises ModelNotPulled,
    and WeightsError for a model whose directory is gone.
    """
    for name in sorted({name for job in jobs if not job.model_dir for name in job.plan.models()}):
        try:
            await asyncio.to_thread(directory, catalogue.find(name))
        except ModelNotPulled as error:
            if service.settings.pull != "auto":
                raise ModelNotPulled(name, error.terms, f"POST {pull_path(name)} downloads it") from None
            service.models_wanted.set()


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
    event: asyncio.Event = request.app.state.closing
    return event.is_set()


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

    Raises JobConflict while the job is not completed, and as `job_files.film_of` does.
    """
    if job.state != "completed" or job.result is None:
        raise JobConflict(id, job.state, "downloaded", "try again when its status is completed")
    return job_files.film_of(service, job, id)
