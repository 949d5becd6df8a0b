"""Sequences over HTTP: several prompts in, one film of related images out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from flickbook.jobs.create import sequenced
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.jobs import shown
from flickbook.server.api.requests import SequenceRequest, received
from flickbook.server.api.responses import ROOT, JobResponse
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import inputs
from flickbook.server.submission.forms import body_of, request_schema
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import submitted
from flickbook.store.base import Job

_FILES = ("audio",)
router = APIRouter(tags=["sequences"])


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    plain = SequenceRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    (example,) = plain.pop("examples")
    plain.pop("$defs", None)
    return request_schema(plain, example, plain, _FILES, ["request"])


@router.post(
    f"{ROOT}/sequences",
    operation_id="create_sequence",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Create a sequence. It is one film of related images, with a part for each prompt.

    Send JSON, or a form with the same JSON in the part `request` and the sound under the film in the part `audio`. The
    job is of the kind sequence. Options that the model does not support are refused at once.
    """
    service = service_of(request)
    async with body_of(request) as body:
        sequence, files = await received(body, SequenceRequest, "sequence", _FILES)
        job = await submitted(service, partial(_job, service, sequence, caller, files), idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


def _job(service: Service, body: SequenceRequest, caller: Caller, files: Mapping[str, UploadFile], id: str) -> Job:
    """Create the job of a request and store its sound. Blocks."""
    sound = body.sound(inputs.stored_track(service, body, files, id))
    return sequenced(
        body.prompts,
        body.request(service.loras_of(caller.owner), prompt="", **sound),
        frames_per=body.frames_per,
        drift=float(body.drift),
        feedback=float(body.feedback),
        owner=caller.owner,
        **body.extra("admin" in caller.scopes),
    )
