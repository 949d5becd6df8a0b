"""The endpoints of trainings: a dataset and settings in, the report on it or a job out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.datastructures import UploadFile

from flickbook import catalogue, settings
from flickbook.errors import RequestError
from flickbook.jobs.artifacts import CLIPS
from flickbook.jobs.create import tuning
from flickbook.learn.tuning.config import TuneConfig, changed, check_trainable
from flickbook.learn.tuning.data.dataset import first_caption, read
from flickbook.resolution import resolve
from flickbook.server.access.dependencies import Creator
from flickbook.server.api import loras
from flickbook.server.api.jobs import shown
from flickbook.server.api.requests import validated
from flickbook.server.api.responses import ROOT, JobResponse
from flickbook.server.errors import refusals
from flickbook.server.service import MAX_BODY, MAX_DATASET_FILES, Caller, Service, service_of
from flickbook.server.submission.forms import form_of, from_json, is_form
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import require_models, submitted
from flickbook.server.submission.uploads import READERS
from flickbook.server.tuning.checks import checked
from flickbook.server.tuning.datasets import FILES, PRIOR, about_files, keep, keep_prompts, sent
from flickbook.server.tuning.requests import EXAMPLE, CheckResponse, TuneRequest
from flickbook.spec import Plan
from flickbook.spec import Request as FilmRequest
from flickbook.store.base import Job, new_id

router = APIRouter(tags=["tunes"])
#: The prompt of samples whose dataset has no caption yet.
_NO_PROMPT: Final = "sample"


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    options = TuneRequest.model_json_schema()
    options.pop("$defs", None)
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MAX_DATASET_FILES,
    }
    parts = {"request": options, FILES: files}
    form = {"type": "object", "properties": parts, "required": ["request", FILES], "additionalProperties": False}
    encoding = {"request": {"contentType": "application/json"}}
    content = {"multipart/form-data": {"schema": form, "encoding": encoding, "example": {"request": EXAMPLE}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    f"{ROOT}/tunes",
    operation_id="create_tune",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Create the job of a LoRA training. Its samples are the previews, and its film is made with the finished LoRA.

    Send a form with the clips and captions in the parts `files` and the settings as JSON in the part `request`. Once
    the job is completed, films can use the LoRA by its name; the network of a training with `full` is downloaded.
    """
    service = service_of(request)
    async with _parsed(request) as (asked, files):
        make = partial(_job, service, caller, asked, files)
        job = await submitted(service, make, idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


@router.post(
    f"{ROOT}/tunes/check",
    operation_id="check_tune",
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def check(request: Request, caller: Creator) -> CheckResponse:
    """Check a dataset: what it holds, its problems, and the memory and hours of its training. Nothing is stored.

    The form is that of `POST /api/v1/tunes`.
    """
    service, id = service_of(request), new_id("job")
    loop = asyncio.get_running_loop()
    try:
        async with _parsed(request) as (asked, files):
            job = await loop.run_in_executor(READERS, _job, service, caller, asked, files, id)
        await require_models(service, [job])
        assert job.tuning is not None, "a tune job has its training"
        with about_files(len(files)):
            tuning = job.tuning
            config = TuneConfig(**tuning.config)  # type: ignore[arg-type]
            found = await checked(service, Path(tuning.clips), job.plan, config, tuning.prior_prompts)
    finally:
        await asyncio.to_thread(service.artifacts.clear, id)
    return CheckResponse.model_validate(found)


@asynccontextmanager
async def _parsed(request: Request) -> AsyncIterator[tuple[TuneRequest, list[UploadFile]]]:
    """Yield the settings and the files of a form; the files are deleted on exit."""
    if not is_form(request):
        raise HTTPException(415, "send multipart/form-data: the clips in parts files, the settings in the part request")
    form = await form_of(request)
    try:
        text = form.get("request")
        if isinstance(text, UploadFile):
            text = (await text.read(MAX_BODY)).decode("utf-8", "replace")
        if not text:
            raise RequestError("request", "", "missing from the form", 'send JSON in this part: {"name": "ink"}')
        for name, value in form.multi_items():
            if isinstance(value, str) and name != "request":
                raise RequestError(name, value, "no such part of this form", f"send request and {FILES}")
        yield validated(TuneRequest, from_json(text), "training"), sent(form)
    finally:
        await form.close()


def _job(service: Service, caller: Caller, asked: TuneRequest, files: list[UploadFile], id: str) -> Job:
    """Create the job of a training and store its dataset. Blocks. Refuses the settings before a file is written."""
    model = catalogue.find(asked.model or settings.load().model)
    check_trainable(model)
    config = asked.config(model.name)
    if asked.name in loras.here([service.loras]):
        raise RequestError("name", asked.name, "is a LoRA of this service", "choose another name")
    extra = asked.extra("admin" in caller.scopes)
    _planned(asked, model.name, asked.prompt or _NO_PROMPT)
    home = service.artifacts.made(id)
    clips, known = home / CLIPS, home / PRIOR
    keep(files, clips)
    if asked.prior_prompts:
        keep_prompts(asked.prior_prompts, known)
    with about_files(len(files)):
        read(clips, only_inside=True)
        prompt = asked.prompt or first_caption(clips, only_inside=True) or _NO_PROMPT
    plan, request = _planned(asked, model.name, prompt)
    how = {
        "clips": str(clips.absolute()),
        "name": asked.name,
        "config": changed(config),
        "sample_every": asked.sample_every,
        "prior_prompts": str(known.absolute()) if asked.prior_prompts else "",
    }
    return tuning(plan, request, how, owner=caller.owner, **extra)


def _planned(asked: TuneRequest, model: str, prompt: str) -> tuple[Plan, FilmRequest]:
    request = asked.sample(model, prompt)
    return resolve(request), request
