"""/v1/images: images and short animations in the form of the OpenAI API; requests block until they are done."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from flickbook.engine.polish import finished
from flickbook.errors import FlickbookError, JobNotFound, RequestError
from flickbook.jobs import signed_links
from flickbook.jobs.create import ordered
from flickbook.server.access.dependencies import Creator, caller_of, guard_of
from flickbook.server.api.job_files import link_path
from flickbook.server.compatible.fields import CreateImage, ignored, named, polish_options_of, request_of, validated
from flickbook.server.compatible.models import model_of, substituted
from flickbook.server.compatible.responses import MAKING, body_schema, refusals
from flickbook.server.compatible.videos import only_files
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission.forms import body_of
from flickbook.server.submission.idempotency import Idempotency, IdempotencyKey
from flickbook.server.submission.revisions import failure
from flickbook.server.submission.submit import (
    check_open,
    closing,
    dropped,
    ended,
    film_path,
    hung_up,
    together,
)
from flickbook.spec import Container
from flickbook.store.base import DONE, Job

router = APIRouter(prefix="/v1/images", tags=["images"])
_EXAMPLE: Final = {"prompt": "a red circle", "n": 2, "seed": 7}
_CONTAINERS: Final[dict[str, Container]] = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif"}
#: The default number of frames of an animation, and milliseconds per frame.
_FRAMES: Final = 9
_FRAME_MS: Final = 200
#: Seconds between two looks at the previews, and of silence until a keep-alive comment is sent.
_LOOK: Final = 0.05
_SILENCE: Final = 10.0


class Image(BaseModel):
    """One image, as base64 or as a signed link, with its seed and the SHA-256 of its frames."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    frames_sha256: str | None = None


class Images(BaseModel):
    """The images of a request."""

    created: int
    data: list[Image]
    output_format: Literal["png", "jpeg", "webp", "gif"]
    size: Annotated[str, Field(examples=["128x128"])]
    background: Literal["opaque"] = "opaque"
    ignored: list[str] | None = None
    replaced: Annotated[dict[str, str] | None, Field(description="Requested values that an alias replaced.")] = None


@router.post(
    "/generations",
    response_model=Images,
    response_model_exclude_none=True,
    responses=refusals(*MAKING)
    | {
        200: {
            "model": Images,
            "description": "The images, or with `stream` events of their progress.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
    openapi_extra=body_schema(CreateImage, _EXAMPLE),
)
async def create_image(request: Request, caller: Creator, idempotency: IdempotencyKey) -> Response:
    """Create images. The request blocks until they are done; disconnecting cancels them."""
    service = service_of(request)
    async with body_of(request) as body:
        fields, replaced = await asyncio.to_thread(substituted, validated(CreateImage, body), service.settings.aliases)
        only_files(body, ())
    _check(fields)
    jobs = await _submitted(service, fields, caller, idempotency)
    keep = idempotency is not None
    if fields.stream:
        return StreamingResponse(_events(service, request, fields, jobs, keep), media_type="text/event-stream")
    done = await ended(service, request, jobs, keep=keep)
    if not done:
        return hung_up()
    failed = next((job for job in done if job.state != "completed"), None)
    if failed is not None:
        return failure(failed)
    found = Images(
        created=int(done[0].created_at),
        data=[await _image(service, request, fields, job) for job in done],
        output_format=fields.output_format or "png",
        size=_size(done[0]),
        ignored=ignored(fields) or None,
        replaced=replaced or None,
    )
    return JSONResponse(found.model_dump(exclude_none=True))


def _check(fields: CreateImage) -> None:
    """Raise RequestError for fields that cannot be combined."""
    for name in ("frame_count", "frame_duration_ms"):
        if getattr(fields, name) is not None and fields.output_format != "gif":
            raise RequestError(name, getattr(fields, name), "needs output_format gif", "add output_format=gif")
    if fields.partial_images is not None and not fields.stream:
        raise RequestError("partial_images", fields.partial_images, "needs stream=true", "add stream=true")
    if fields.stream and fields.response_format == "url":
        raise RequestError("response_format", "url", "a stream returns the image itself", "leave it out")


async def _submitted(
    service: Service, fields: CreateImage, caller: Caller, idempotency: Idempotency | None
) -> list[Job]:
    """Create a job for each image, all or none; the seeds are consecutive."""

    def make() -> list[Job]:
        return [_made(service, fields, number, caller.owner) for number in range(fields.n or 1)]

    return await together(service, partial(asyncio.to_thread, make), idempotency)


def _made(service: Service, fields: CreateImage, number: int, owner: str) -> Job:
    """Create the job of one image. Blocks."""
    model = model_of(fields.model, service.settings.model)
    container = _CONTAINERS[fields.output_format or "png"]
    more: dict[str, Any] = {"container": container, "num_frames": 1}
    if container == "gif":
        more |= {"num_frames": fields.frame_count or _FRAMES, "fps": 1000 / (fields.frame_duration_ms or _FRAME_MS)}
    if container in ("png", "gif"):
        more["quality"] = None  # in OpenAI's API the compression is of JPEG and WebP
    if fields.seed is not None:
        more["seed"] = (fields.seed + number) % 2**63
    request = request_of(fields, model, service.loras_of(owner), **more)
    with named(fields):
        return ordered(request, polish_options_of(fields), owner=owner)


async def _image(service: Service, request: Request, fields: CreateImage, job: Job) -> Image:
    """Return a completed image."""
    assert job.result is not None
    recipe = job.result.sidecar.recipe
    facts: dict[str, Any] = {"seed": job.plan.seed, "frames_sha256": recipe and recipe.frames_sha256}
    if fields.response_format == "url":
        path = link_path(job.id, "film")
        signed = await guard_of(request).link(caller_of(request.scope), path, job.owner, signed_links.LONGEST)
        return Image(url=str(request.base_url).rstrip("/") + signed, **facts)
    return Image(b64_json=await _encoded(service, job), **facts)


async def _encoded(service: Service, job: Job) -> str:
    """Return an image file in base64. Raises HTTPException if it is gone."""
    try:
        data = await asyncio.to_thread(_read, service, film_path(service, job, job.id))
    except OSError:
        raise HTTPException(404, "the file was deleted; create the image again") from None
    return base64.b64encode(data).decode("ascii")


def _read(service: Service, path: Path) -> bytes:
    with service.artifacts.opened(path).file as file:
        return file.read()


def _size(job: Job) -> str:
    size = finished(job.plan)
    return f"{size.width}x{size.height}"


async def _events(
    service: Service, request: Request, fields: CreateImage, jobs: list[Job], keep: bool
) -> AsyncIterator[str]:
    """Stream the events: previews, completed images, or an error. Disconnecting cancels the jobs, unless `keep` is
    set."""
    waiting = {job.id: _PendingImage(job, fields.partial_images or 0) for job in jobs}
    last_sent = time.monotonic()
    try:
        while waiting:
            if await request.is_disconnected():
                return
            check_open(request)
            for id, pending in list(waiting.items()):
                job = await service.store.get(id)
                if job is None:
                    raise JobNotFound(id)
                event = await _event(service, fields, job, pending)
                if event is not None:
                    last_sent = time.monotonic()
                    yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                if job.state in DONE:
                    del waiting[id]
            if time.monotonic() - last_sent > _SILENCE:
                last_sent = time.monotonic()
                yield ": still working\n\n"
            await asyncio.sleep(_LOOK)
    except (FlickbookError, HTTPException) as error:
        fault = {"message": str(error), "type": "server_error", "param": None, "code": getattr(error, "code", None)}
        yield f"event: error\ndata: {json.dumps({'type': 'error', 'error': fault})}\n\n"
    finally:
        # Also reached when the stream is closed from outside.
        left = [pending.job for pending in waiting.values()]
        if left and not keep and not closing(request):
            await asyncio.shield(dropped(service, left))


class _PendingImage:
    """An unfinished image: the number of `previews` that were requested, and of those sent, `taken`."""

    def __init__(self, job: Job, previews: int) -> None:
        self.job, self.previews, self.taken = job, previews, 0
        self.last = b""

    def due(self, share: float) -> bool:
        """Whether the next preview is due at this share of the work."""
        return self.taken < self.previews and share >= (self.taken + 1) / (self.previews + 1)


async def _event(service: Service, fields: CreateImage, job: Job, pending: _PendingImage) -> dict[str, Any] | None:
    """Return the next event of an image, None if there is none. Raises RequestError if the job failed."""
    about: dict[str, Any] = {
        "created_at": int(job.created_at),
        "size": _size(job),
        "quality": "auto",
        "background": "opaque",
        "output_format": fields.output_format or "png",
    }
    if job.state == "completed":
        recipe = job.result and job.result.sidecar.recipe
        facts = {"seed": job.plan.seed, "frames_sha256": recipe and recipe.frames_sha256}
        # Tokens are not counted, but clients read these fields.
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        usage |= {"input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}  # type: ignore[dict-item]
        encoded = await _encoded(service, job)
        return {"type": "image_generation.completed", "b64_json": encoded, **about, **facts, "usage": usage}
    if job.state in DONE:
        limit = job.error or f"the job was {job.state}"
        raise RequestError("prompt", job.plan.prompt, limit, "ask again")
    if pending.previews and job.state == "running":
        service.artifacts.watch(job.id)
        share = service.artifacts.progress(job.id).get("fraction") or 0.0
        preview = service.artifacts.preview(job.id) if pending.due(share) else None
        if preview is not None and preview != pending.last:
            pending.last = preview
            pending.taken += 1
            form = "webp" if about["output_format"] == "gif" else about["output_format"]
            shown = await asyncio.to_thread(_as, preview, form)
            about |= {"output_format": form, "partial_image_index": pending.taken - 1}
            return {"type": "image_generation.partial_image", "b64_json": shown, **about}
    return None


def _as(preview: bytes, form: str) -> str:
    """Return a preview in base64, in the format of the image; previews of animations stay WebP. Blocks."""
    if form != "webp":
        from PIL import Image as Pictures  # Pillow takes a moment to load

        file = BytesIO()
        Pictures.open(BytesIO(preview), formats=["WEBP"]).convert("RGB").save(file, form.upper())
        preview = file.getvalue()
    return base64.b64encode(preview).decode("ascii")
