"""Drafts over HTTP: films stopped after some steps, and the chosen ones finished from where they stopped."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from flickbook.errors import JobConflict
from flickbook.jobs import queue
from flickbook.jobs.create import ordered
from flickbook.resolution import DRAWN_SEED_BITS, SEED_LIMIT
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.requests import EXAMPLE, DraftsRequest, FinishRequest, received
from flickbook.server.api.responses import ROOT, JobList, list_response
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import inputs
from flickbook.server.submission.forms import body_of, request_schema
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import NewPlace, several, together
from flickbook.store.base import Job

router = APIRouter(tags=["drafts"])


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    plain = DraftsRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    plain.pop("$defs", None)
    return request_schema(plain, EXAMPLE | {"seeds": 8, "until": 0.4}, plain, tuple(inputs.KINDS), ["request"])


@router.post(
    f"{ROOT}/drafts",
    operation_id="create_drafts",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobList:
    """Create drafts with different seeds. All jobs are queued, or none.

    Send JSON, or a form with the same JSON in the part `request` and input files in the same parts as those of a job.
    A draft is silent; the film that is finished from it has the sound.
    """
    service = service_of(request)
    async with body_of(request) as body:
        drafts, files = await received(body, DraftsRequest, "draft", inputs.KINDS)
        extra = drafts.extra("admin" in caller.scopes) | {"until": drafts.until}
        make = partial(drafts_of, drafts, service, caller.owner, extra, files)
        return await list_response(service, await several(service, make, idempotency))


def drafts_of(
    body: DraftsRequest,
    service: Service,
    owner: str,
    extra: dict[str, Any],
    files: Mapping[str, UploadFile],
    place: NewPlace,
) -> list[Job]:
    """Create a job for each seed, and store a copy of the input files with each. Blocks."""
    if isinstance(body.seeds, list):
        seeds = list(dict.fromkeys(body.seeds))
    else:
        first = secrets.randbits(DRAWN_SEED_BITS) if body.seed is None else body.seed
        seeds = [(first + number) % SEED_LIMIT for number in range(body.seeds)]
    loras, polish_options, jobs = service.loras_of(owner), body.polish_options(), list[Job]()
    kept = dict[str, str]()
    for seed in seeds:
        named, own = dict[str, Any](), dict[str, str]()
        if files:
            id = place()
            own = inputs.again(service, kept, id) if kept else inputs.stored(service, body, files, id)
            kept, named = kept or own, {"id": id}
        request = body.request(loras, **body.files(own)).model_copy(update={"seed": seed})
        jobs.append(ordered(request, polish_options, kind="draft", owner=owner, **extra).model_copy(update=named))
    return jobs


@router.post(f"{ROOT}/drafts/finish", operation_id="finish_drafts", status_code=201, responses=refusals(404, 409, 413))
async def finish(body: FinishRequest, request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobList:
    """Finish completed drafts. Each film continues from its draft, with the same Plan."""
    service = service_of(request)
    return await list_response(service, await together(service, partial(finishing, service, body, caller), idempotency))


async def finishing(service: Service, body: FinishRequest, caller: Caller) -> list[Job]:
    """Create a job for each draft to finish, with the same Plan and request. Raises JobNotFound, JobConflict."""
    extra, jobs = body.extra("admin" in caller.scopes), []
    for id in dict.fromkeys(body.ids):
        draft = await service.queue.job(id, caller.sees)
        if draft.kind != "draft":
            raise JobConflict(id, f"a {draft.kind}", "finished as a draft", "name a draft")
        if draft.state != "completed":
            raise JobConflict(id, draft.state, "finished yet", "wait until the draft is completed")
        kept = {name: getattr(draft, name) for name in ("precision", "model_dir", "networks")}
        jobs.append(queue.job(draft.plan, draft.request, kind="film", owner=caller.owner, parent=id, **kept, **extra))
    return jobs
