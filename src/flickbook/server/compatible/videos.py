"""/v1/videos: films in the form of the OpenAI API, SGLang and vLLM-Omni."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.datastructures import UploadFile

from flickbook.errors import RequestError
from flickbook.jobs.create import ordered
from flickbook.server.access.dependencies import Changer, Creator, Reader
from flickbook.server.api import thumbnails
from flickbook.server.api.job_files import held
from flickbook.server.api.responses import page_fields
from flickbook.server.compatible.fields import (
    CreateVideo,
    EditVideo,
    RemixVideo,
    film_of,
    ignored,
    named,
    polish_options_of,
    validated,
)
from flickbook.server.compatible.models import model_of, substituted
from flickbook.server.compatible.responses import (
    MAKING,
    VIDEOS,
    Video,
    VideoDeleted,
    VideoList,
    body_schema,
    poll_after,
    refusals,
    video_id,
    video_job,
    video_of,
)
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import revisions
from flickbook.server.submission.forms import Body, body_of
from flickbook.server.submission.idempotency import ChangeKey, Idempotency, IdempotencyKey, changed
from flickbook.server.submission.queue_position import line_of
from flickbook.server.submission.submit import ended, film_path, hung_up, submitted
from flickbook.server.submission.uploads import inline, keep
from flickbook.store.base import Job
from flickbook.store.base import Query as Jobs

router = APIRouter(prefix="/v1/videos", tags=["videos"])
_EXAMPLE: Final = {"prompt": "a red circle moving left", "seconds": "2", "size": "128x128", "seed": 7}
_PICTURE: Final = "An image to start from."
_LAST: Final = "An image to end with."
_TRACK: Final = "The sound under the video: WAV, FLAC, MP3, Ogg, M4A, or a film with sound."
_FILM: Final = "The film: MP4, WebM, MKV, MOV, GIF or animated WebP."
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_MEDIA: Final = ("video/mp4", "video/webm", "video/x-matroska", "image/gif", "image/webp", "image/apng", "image/png")
_FILES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": {kind: _BINARY for kind in _MEDIA}}
}
_PARTS: Final[dict[int | str, dict[str, Any]]] = {
    206: {"description": "The requested range.", "content": _FILES[200]["content"]},
    304: {"description": "The copy of the client is current."},
}
_POLL: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "openai-poll-after-ms": {
                "description": "Seconds until the next poll.",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    }
}


@router.post(
    "",
    response_model_exclude_none=True,
    responses=refusals(*MAKING) | _POLL,
    openapi_extra=body_schema(CreateVideo, _EXAMPLE, input_reference=_PICTURE, last_image=_LAST, audio=_TRACK),
)
async def create_video(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> Video:
    """Create a video. It is made from a prompt, and from an image if one is sent."""
    service = service_of(request)
    job, fields, replaced = await _created(service, request, caller, idempotency)
    response.headers.update(poll_after(job))
    return video_of(service.queue, job, ignored(fields), replaced=replaced)


async def _created(
    service: Service, request: Request, caller: Caller, idempotency: Idempotency | None
) -> tuple[Job, CreateVideo, dict[str, str]]:
    """Create the job of a film. Returns it with its fields, and the values that an alias replaced."""
    async with body_of(request) as body:
        fields, replaced = await asyncio.to_thread(substituted, validated(CreateVideo, body), service.settings.aliases)
        only_files(body, ("input_reference", "last_image", "audio"))
        if "audio" in body.files and fields.generate_audio is False:
            raise RequestError("generate_audio", False, "leaves no place for the uploaded sound", "send one of them")
        pictures = {"image": _picture(fields, body), "last_image": _last(fields, body)}

        def make(id: str) -> Job:
            model = model_of(fields.model, service.settings.model)
            more: dict[str, Any] = {}
            for name, picture in pictures.items():
                if picture is not None:
                    place = service.artifacts.made(id)
                    more[name] = str(keep(picture[0], picture[1], place, f"given-{name}", "picture"))
            if (track := body.files.get("audio")) is not None:
                more["audio"] = str(keep("audio", track.file, service.artifacts.made(id), "given-audio", "sound"))
            film = film_of(fields, model, service.loras_of(caller.owner), **more)
            with named(fields):
                return revisions.moving(ordered(film, polish_options_of(fields), owner=caller.owner))

        job = await submitted(service, make, idempotency)
    return job, fields, replaced


def _picture(fields: CreateVideo, body: Body) -> tuple[str, IO[bytes]] | None:
    """Return the input image of a film and the field in which it was sent."""
    upload, data_url = body.files.get("input_reference"), fields.picture
    if upload is not None and data_url is not None:
        raise RequestError(data_url[0], "…", "a film starts from one image", "send one of them")
    if upload is not None:
        return "input_reference", upload.file
    return None if data_url is None else (data_url[0], inline(*data_url))


def _last(fields: CreateVideo, body: Body) -> tuple[str, IO[bytes]] | None:
    """Return the image that a film ends with and the field in which it was sent."""
    upload = body.files.get("last_image")
    if upload is not None and fields.last_image is not None:
        raise RequestError("last_image", "…", "a film ends with one image", "send one of them")
    if upload is not None:
        return "last_image", upload.file
    return None if fields.last_image is None else ("last_image", inline("last_image", fields.last_image))


def only_files(body: Body, names: Collection[str]) -> None:
    """Raise RequestError for a file in another field."""
    for name, file in body.files.items():
        if name not in names:
            raise RequestError(name, file.filename, "is not a file field", f"send it as {' or '.join(names) or 'text'}")


@router.post(
    "/sync",
    response_class=Response,
    responses=refusals(*MAKING) | _FILES,
    openapi_extra=body_schema(CreateVideo, _EXAMPLE, input_reference=_PICTURE, last_image=_LAST, audio=_TRACK),
)
async def create_video_and_wait(request: Request, caller: Creator, idempotency: IdempotencyKey) -> Response:
    """Create a video and return its file. The request blocks until it is done; disconnecting cancels it."""
    service = service_of(request)
    job, _, _ = await _created(service, request, caller, idempotency)
    found = await ended(service, request, [job], keep=idempotency is not None)
    if not found:
        return hung_up()
    (job,) = found
    if job.state != "completed":
        return revisions.failure(job)
    return await _film(request, job)


@router.post(
    "/edits",
    response_model_exclude_none=True,
    responses=refusals(*MAKING) | _POLL,
    openapi_extra=body_schema(EditVideo, {"prompt": "a painting of it", "video": {"id": "video_…"}}, video=_FILM),
)
async def edit_video(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> Video:
    """Edit a video. The new one keeps its motion and follows another prompt. Upload a film, or name a video of the
    service."""
    return await _revised(revisions.edit, request, response, caller, idempotency)


@router.post(
    "/extensions",
    response_model_exclude_none=True,
    responses=refusals(*MAKING) | _POLL,
    openapi_extra=body_schema(
        EditVideo, {"prompt": "it goes on", "seconds": "2", "video": {"id": "video_…"}}, video=_FILM
    ),
)
async def extend_video(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> Video:
    """Extend a video. The new film continues from its last frame, and both parts are joined."""
    return await _revised(revisions.extend, request, response, caller, idempotency)


async def _revised(
    revise: revisions.Revise, request: Request, response: Response, caller: Caller, idempotency: Idempotency | None
) -> Video:
    """Create the job of a film that is made from another one by `revise`."""
    service = service_of(request)
    async with body_of(request) as body:
        sent_fields, sent, parent = await _parent(service, caller, body)
        fields, replaced = await asyncio.to_thread(substituted, sent_fields, service.settings.aliases)
        make = partial(revise, service, fields=fields, sent=sent, parent=parent, owner=caller.owner)
        job = await submitted(service, make, idempotency)
    response.headers.update(poll_after(job))
    return video_of(service.queue, job, ignored(fields), replaced=replaced)


async def _parent(service: Service, caller: Caller, body: Body) -> tuple[EditVideo, IO[bytes] | None, Job | None]:
    """Return the request and the input film, as a file or as a job of the caller."""
    fields = validated(EditVideo, body)
    only_files(body, ("video",))
    if fields.picture is not None:
        raise RequestError(fields.picture[0], "…", "a film starts from one input", "send only the film")
    if fields.last_image is not None:
        raise RequestError("last_image", "…", "is not a field of edits and extensions", "send it to /v1/videos")
    sent: UploadFile | None = body.files.get("video")
    if (sent is None) == (fields.video is None):
        raise RequestError("video", fields.video or "", "must be one film", 'send a file, or {"id": "video_…"}')
    if fields.video is None:
        assert sent is not None
        return fields, sent.file, None
    return fields, None, await video_job(service.queue, fields.video, caller)


@router.get("", response_model_exclude_none=True, responses=refusals(404))
async def list_videos(
    request: Request,
    caller: Reader,
    after: Annotated[str | None, Query(description="The last id of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """List your videos, newest first."""
    queue = service_of(request).queue
    last = None if after is None else (await video_job(queue, after, caller)).id
    found = await queue.store.find(
        Jobs(owner=caller.sees, kinds=VIDEOS, after=last, limit=limit + 1, order="new" if order == "desc" else "old")
    )
    return VideoList(**page_fields([video_of(queue, job) for job in found[:limit]], len(found) > limit))


@router.get("/{video_id}", response_model_exclude_none=True, responses=refusals(404) | _POLL)
async def retrieve_video(request: Request, response: Response, video_id: str, caller: Reader) -> Video:
    """Get a video and its progress."""
    queue = service_of(request).queue
    job = await video_job(queue, video_id, caller)
    response.headers.update(poll_after(job))
    _, seconds = await line_of(request).of(job)
    return video_of(queue, job, eta=seconds)


@router.delete("/{video_id}", responses=refusals(404))
async def delete_video(request: Request, video_id: str, caller: Changer) -> VideoDeleted:
    """Delete a video and its files. A running one is stopped first."""
    queue = service_of(request).queue
    job = await video_job(queue, video_id, caller)
    await queue.remove(job.id, caller.sees)
    return VideoDeleted(id=video_id)


@router.post("/{video_id}/cancel", response_model_exclude_none=True, responses=refusals(404) | _POLL)
async def cancel_video(
    request: Request, response: Response, video_id: str, caller: Changer, idempotency: ChangeKey
) -> Video:
    """Cancel a video. A queued one ends at once, a running one at its next step."""
    service = service_of(request)
    job = await video_job(service.queue, video_id, caller)
    job = await changed(service, idempotency, job.id, partial(service.queue.cancel, job.id, caller.sees))
    response.headers.update(poll_after(job))
    return video_of(service.queue, job)


@router.post(
    "/{video_id}/remix",
    response_model_exclude_none=True,
    responses=refusals(*MAKING) | _POLL,
    openapi_extra=body_schema(RemixVideo, {"prompt": "a blue circle moving left"}),
)
async def remix_video(
    request: Request, response: Response, video_id: str, caller: Creator, idempotency: IdempotencyKey
) -> Video:
    """Remix a video. The new one has the same size, frames, steps and seed, and another prompt."""
    service = service_of(request)
    job = await video_job(service.queue, video_id, caller)
    async with body_of(request) as body:
        fields = validated(RemixVideo, body)
        only_files(body, ())
    made = await submitted(
        service,
        lambda id: revisions.remix(service, id, job, fields.prompt, owner=caller.owner),
        idempotency,
    )
    response.headers.update(poll_after(made))
    return video_of(service.queue, made)


@router.head("/{video_id}/content", include_in_schema=False, response_class=Response)
@router.get("/{video_id}/content", response_class=Response, responses=refusals(404, 416) | _FILES | _PARTS)
async def download_video(
    request: Request,
    video_id: str,
    caller: Reader,
    variant: Literal["video", "thumbnail", "spritesheet"] = "video",
) -> Response:
    """Download a video, a frame from its middle, or a contact sheet of its frames."""
    service = service_of(request)
    job = await video_job(service.queue, video_id, caller)
    if variant == "video":
        return await _film(request, job)
    film = film_path(service, job, video_id)
    await asyncio.to_thread(service.artifacts.fetch, film)
    path = await (thumbnails.thumbnail(film) if variant == "thumbnail" else thumbnails.sheet(film, job.plan.prompt))
    return await _download(request, path, f"{video_id}-{variant}{path.suffix}")


async def _film(request: Request, job: Job) -> Response:
    """Return the response that downloads the film of a video."""
    id = video_id(job.id)
    path = film_path(service_of(request), job, id)
    return await _download(request, path, f"{id}{path.suffix}", "" if job.result is None else job.result.sha256)


async def _download(request: Request, path: Path, name: str, digest: str = "") -> Response:
    """Return the response that downloads a file as `name`. Raises HTTPException with 404 if it is gone."""
    try:
        return await held(request, path, name, download=True, digest=digest)
    except OSError:
        raise HTTPException(404, "the file was deleted; create the film again") from None
