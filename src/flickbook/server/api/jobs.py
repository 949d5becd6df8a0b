"""Jobs over HTTP: create, list, change and delete. Each owner sees only its own jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import PlainTextResponse, Response

from flickbook.errors import JobNotFound, RequestError
from flickbook.jobs.artifacts import LOG
from flickbook.jobs.create import ordered
from flickbook.jobs.queue import FAVOURITE
from flickbook.server.access.dependencies import Changer, Creator, Reader
from flickbook.server.api.requests import (
    EXAMPLE,
    FavouriteRequest,
    JobId,
    JobRequest,
    PriorityRequest,
    ReorderRequest,
    RepeatRequest,
    allowed,
    received,
)
from flickbook.server.api.responses import (
    ROOT,
    Deleted,
    JobResponse,
    Page,
    QueueResponse,
    job_response,
    page_fields,
    run_response,
)
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import inputs, revisions
from flickbook.server.submission.forms import body_of, request_schema
from flickbook.server.submission.idempotency import ChangeKey, Idempotency, IdempotencyKey, changed
from flickbook.server.submission.queue_position import line_of
from flickbook.server.submission.submit import require_models, submitted
from flickbook.spec import Run
from flickbook.store import base
from flickbook.store.base import Job, Kind, State

#: The default share of the steps after which a draft stops.
UNTIL: Final = 0.4
#: The bytes of a log that are returned, from its end.
_MAX_LOG: Final = 1 << 20
router = APIRouter(tags=["jobs"])


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    plain = JobRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    plain.pop("$defs", None)
    return request_schema(plain, EXAMPLE, plain, tuple(inputs.KINDS), ["request"])


@router.post(
    f"{ROOT}/jobs",
    operation_id="create_job",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Create a job. It makes a film, an image or a draft.

    Send JSON, or a form with the same JSON in the part `request` and the input files in the parts `image`, `video`,
    `last_image`, `control_video`, `face_video` and `mask`. The image of the first of `conditions` is the part
    `condition-0`, and the first reference image is `reference-0`. The part `audio` is the sound under the film.
    Options that the model does not support are refused at once.
    """
    service = service_of(request)
    async with body_of(request) as body:
        job_request, files = await received(body, JobRequest, "job", inputs.KINDS)
        make = partial(job_of, service, caller, job_request, files)
        job = await submitted(service, make, idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


def job_of(service: Service, caller: Caller, job_request: JobRequest, files: dict[str, UploadFile], id: str) -> Job:
    """Create the job of a request and store its input files. Blocks."""
    kind, until = _kind(job_request)
    fields: dict[str, Any] = {"num_frames": 1} if job_request.kind == "picture" else {}
    kept = inputs.stored(service, job_request, files, id)
    return ordered(
        job_request.request(service.loras_of(caller.owner), **fields, **job_request.files(kept)),
        job_request.polish_options(),
        kind=kind,
        owner=caller.owner,
        until=until,
        **job_request.extra("admin" in caller.scopes),
    )


def _kind(job_request: JobRequest) -> tuple[Kind | None, float]:
    """Return the kind of a job and the share of its steps to run."""
    if job_request.kind == "draft":
        return "draft", job_request.until or UNTIL
    if job_request.until is not None:
        raise RequestError("until", job_request.until, "has no effect without kind draft", "leave it out")
    if job_request.kind == "picture" and job_request.num_frames not in (None, 1):
        raise RequestError("num_frames", job_request.num_frames, "an image has one frame", "leave it out")
    if job_request.kind == "film" and job_request.num_frames == 1:
        raise RequestError("num_frames", 1, "a film needs 2 frames or more", "ask for a picture")
    return job_request.kind, 1.0


async def shown(request: Request, job: Job) -> JobResponse:
    """Return a job as a response, with its place in the queue and its remaining time."""
    service = service_of(request)
    place, eta = await line_of(request).of(job)
    return job_response(service.artifacts, job, place, eta, favourites=await service.queue.favourites([job]))


@router.get(f"{ROOT}/jobs", operation_id="list_jobs", responses=refusals(404))
async def list_jobs(
    request: Request,
    caller: Reader,
    state: Annotated[list[State] | None, Query(description="Only jobs in one of these states")] = None,
    kind: Annotated[list[Kind] | None, Query(description="Only jobs of these kinds")] = None,
    text: Annotated[str, Query(max_length=200, description="Only jobs whose prompt contains this text")] = "",
    favourite: Annotated[bool, Query(description="Only favourites")] = False,
    after: Annotated[JobId | None, Query(description="The last id of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["new", "old", "queue"], Query(description="The order queue has only one page")] = "new",
) -> Page:
    """List jobs. The order is newest first, oldest first, or that of the queue."""
    service = service_of(request)
    if after is not None:
        await service.queue.job(after, caller.sees)
        if order == "queue":
            raise RequestError("after", after, "the queue changes, so it has only one page", "use a larger limit")
    states: tuple[State, ...] = tuple(state or ()) or (("queued",) if order == "queue" else ())
    query = base.Query(
        owner=caller.sees,
        states=states,
        kinds=tuple(kind or ()),
        noted=FAVOURITE if favourite else None,
        text=text,
        after=after,
        limit=limit + 1,
        order=order,
    )
    found = await service.store.find(query)
    favourites = await service.queue.favourites(found)
    look = await line_of(request).look()
    data = [
        job_response(service.artifacts, job, look.places.get(job.id), look.etas.get(job.id), favourites=favourites)
        for job in found[:limit]
    ]
    return Page(**page_fields(data, len(found) > limit))


@router.get(f"{ROOT}/queue", operation_id="show_queue", responses=refusals())
async def show_queue(request: Request, caller: Reader) -> QueueResponse:
    """Get the state of the queue: the number of your jobs in each state, and the seconds until all are done. An admin
    sees all jobs."""
    look = await line_of(request).look()
    counts = await service_of(request).store.counts(caller.sees)
    if caller.sees is None:
        seconds = look.seconds
    else:
        seconds = look.owners.get(caller.sees) if counts["queued"] or counts["running"] else 0.0
    return QueueResponse(counts=counts, eta_seconds=seconds)


@router.get(f"{ROOT}/jobs/{{id}}", operation_id="show_job", responses=refusals(404))
async def show(id: str, request: Request, caller: Reader) -> JobResponse:
    """Get a job. The response has its state, progress, place in the queue, error and result."""
    return await shown(request, await service_of(request).queue.job(id, caller.sees))


@router.delete(f"{ROOT}/jobs/{{id}}", operation_id="delete_job", responses=refusals(404))
async def delete(id: str, request: Request, caller: Changer) -> Deleted:
    """Delete a job and its files. A running job is stopped first."""
    found = await service_of(request).queue.remove(id, caller.sees)
    return Deleted(id=found.id, object="job.deleted")


@router.post(f"{ROOT}/jobs/{{id}}/cancel", operation_id="cancel_job", responses=refusals(404))
async def cancel(id: str, request: Request, caller: Changer, idempotency: ChangeKey) -> JobResponse:
    """Cancel a job. A queued job ends at once, a running one at its next step."""
    return await _changed(id, request, idempotency, partial(service_of(request).queue.cancel, id, caller.sees))


@router.post(f"{ROOT}/jobs/{{id}}/pause", operation_id="pause_job", responses=refusals(404))
async def pause(id: str, request: Request, caller: Changer, idempotency: ChangeKey) -> JobResponse:
    """Pause a job. It can be resumed later and continues where it stopped."""
    return await _changed(id, request, idempotency, partial(service_of(request).queue.pause, id, caller.sees))


@router.post(f"{ROOT}/jobs/{{id}}/resume", operation_id="resume_job", responses=refusals(404, 409))
async def resume(id: str, request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Resume a paused job. It returns to its old place in the queue."""
    return await _back(id, request, caller, idempotency, service_of(request).queue.resume)


@router.post(f"{ROOT}/jobs/{{id}}/retry", operation_id="retry_job", responses=refusals(404, 409))
async def retry(id: str, request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Retry a job that failed, expired or was cancelled. It continues from its last checkpoint."""
    return await _back(id, request, caller, idempotency, service_of(request).queue.retry)


async def _back(
    id: str,
    request: Request,
    caller: Caller,
    idempotency: Idempotency | None,
    put: Callable[[str, str | None], Awaitable[Job]],
) -> JobResponse:
    """Return a job to the queue by `put`."""
    service = service_of(request)

    async def change() -> Job:
        await require_models(service, [await service.queue.job(id, caller.sees)])
        return await put(id, caller.sees)

    return await _changed(id, request, idempotency, change)


async def _changed(
    id: str, request: Request, idempotency: Idempotency | None, change: Callable[[], Awaitable[Job]]
) -> JobResponse:
    """Change a job by `change`, once for each Idempotency-Key."""
    return await shown(request, await changed(service_of(request), idempotency, id, change))


@router.post(
    f"{ROOT}/jobs/{{id}}/again", operation_id="job_again", status_code=201, responses=refusals(404, 409, 413, 507)
)
async def again(
    id: str,
    body: RepeatRequest,
    request: Request,
    response: Response,
    caller: Creator,
    idempotency: IdempotencyKey,
) -> JobResponse:
    """Repeat a job. It uses the same input files and runs in the queue, even if a command ran the first one."""
    service = service_of(request)
    parent = await service.queue.job(id, caller.sees)
    seed = body.seed if "seed" in body.model_fields_set else revisions.seed_of(parent)
    changes: dict[str, Any] = {"prompt": body.prompt, "seed": seed, "owner": caller.owner}
    make = partial(revisions.again, service, parent=parent, **changes)
    job = await submitted(service, make, idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


@router.post(f"{ROOT}/jobs/{{id}}/reorder", operation_id="reorder_job", responses=refusals(404, 413))
async def reorder(
    id: str, body: ReorderRequest, request: Request, caller: Changer, idempotency: ChangeKey
) -> JobResponse:
    """Move a queued job. It runs before another one of the same owner and priority, or after all of these."""
    change = partial(service_of(request).queue.reorder, id, body.before, caller.sees)
    return await _changed(id, request, idempotency, change)


@router.post(f"{ROOT}/jobs/{{id}}/favourite", operation_id="favour_job", responses=refusals(404, 413))
async def favour(
    id: str, body: FavouriteRequest, request: Request, caller: Changer, idempotency: ChangeKey
) -> JobResponse:
    """Mark a job as a favourite, or remove the mark. Favourites are never deleted for their age."""
    change = partial(service_of(request).queue.favour, id, body.favourite, caller.sees)
    return await _changed(id, request, idempotency, change)


@router.post(f"{ROOT}/jobs/{{id}}/priority", operation_id="prioritise_job", responses=refusals(404, 413))
async def prioritise(
    id: str, body: PriorityRequest, request: Request, caller: Changer, idempotency: ChangeKey
) -> JobResponse:
    """Change the priority of a queued job."""
    service = service_of(request)
    await service.queue.job(id, caller.sees)
    priority = allowed(body.priority, "admin" in caller.scopes)
    return await _changed(id, request, idempotency, partial(service.queue.prioritise, id, priority, caller.sees))


@router.get(
    f"{ROOT}/jobs/{{id}}/log",
    operation_id="job_log",
    response_class=PlainTextResponse,
    responses=refusals(404),
)
async def log(id: str, request: Request, caller: Reader) -> Response:
    """Get the log of a job. It covers all attempts; at most the last megabyte is returned."""
    service = service_of(request)
    job = await service.queue.job(id, caller.sees)
    text = await asyncio.to_thread(_tail, service, job)
    return PlainTextResponse(text, headers={"x-content-type-options": "nosniff"})


def _tail(service: Service, job: Job) -> str:
    place = service.artifacts.of(job.id)
    try:
        log = service.artifacts.opened(place / LOG)
    except OSError:
        return ""
    with log.file as file:
        file.seek(max(0, log.size - _MAX_LOG))
        found = file.read(_MAX_LOG).decode("utf-8", "replace")
    return found.replace(f"{place}{os.sep}", "")


@router.get(f"{ROOT}/jobs/{{id}}/run", operation_id="job_run", responses=refusals(404))
async def run(id: str, request: Request, caller: Reader) -> Run:
    """Get the run report of a job: seconds and memory by phase, scores, notes."""
    job = await service_of(request).queue.job(id, caller.sees)
    if job.result is None or job.result.sidecar.run is None:
        raise JobNotFound(id)
    return run_response(job.result.sidecar.run)
