"""Drafts over HTTP: films stopped after some steps, and the chosen ones finished from where they stopped."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from flickbook.errors import JobConflict
from flickbook.jobs import queue
from flickbook.jobs.create import ordered
from flickbook.resolution import SEED_LIMIT, resolve
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.requests import DraftsRequest, FinishRequest
from flickbook.server.api.responses import ROOT, JobList, list_response
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import together
from flickbook.store.base import Job

router = APIRouter(tags=["drafts"])


@router.post(f"{ROOT}/drafts", operation_id="create_drafts", status_code=201, responses=refusals(404, 409, 413, 507))
async def create(body: DraftsRequest, request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobList:
    """Create drafts with different seeds. All jobs are queued, or none."""
    service = service_of(request)
    extra = body.extra("admin" in caller.scopes) | {"until": body.until}
    make = partial(asyncio.to_thread, drafts_of, body, service, caller.owner, extra)
    return await list_response(service, await together(service, make, idempotency))


def drafts_of(body: DraftsRequest, service: Service, owner: str, extra: dict[str, Any]) -> list[Job]:
    """Create a job for each seed. Blocks."""
    request = body.request(service.loras_of(owner))
    if isinstance(body.seeds, list):
        seeds = list(dict.fromkeys(body.seeds))
    else:
        first = resolve(request).seed
        seeds = [(first + number) % SEED_LIMIT for number in range(body.seeds)]
    return [
        ordered(
            request.model_copy(update={"seed": seed}),
            body.polish_options(),
            kind="draft",
            owner=owner,
            **extra,
        )
        for seed in seeds
    ]


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
