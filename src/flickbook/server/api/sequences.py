"""Sequences over HTTP: several prompts in, one film of related images out."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from flickbook.jobs.create import sequenced
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.jobs import shown
from flickbook.server.api.requests import SequenceRequest
from flickbook.server.api.responses import ROOT, JobResponse
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import submitted
from flickbook.store.base import Job

router = APIRouter(tags=["sequences"])


@router.post(
    f"{ROOT}/sequences", operation_id="create_sequence", status_code=201, responses=refusals(404, 409, 413, 507)
)
async def create(
    body: SequenceRequest, request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey
) -> JobResponse:
    """Create a sequence. It is one film of related images, with a part for each prompt.

    The job is of the kind sequence. Options that the model does not support are refused at once.
    """
    service = service_of(request)
    make = partial(_job, service, body, caller)
    job = await submitted(service, make, idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


def _job(service: Service, body: SequenceRequest, caller: Caller, id: str) -> Job:
    """Create the job of a request. Blocks."""
    return sequenced(
        body.prompts,
        body.request(service.loras_of(caller.owner), prompt=""),
        frames_per=body.frames_per,
        drift=float(body.drift),
        feedback=float(body.feedback),
        owner=caller.owner,
        **body.extra("admin" in caller.scopes),
    )
