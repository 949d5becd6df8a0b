"""Files of jobs over HTTP, with byte ranges, addressed by job id and kind, never by a path.

The path comes from the job's id and the file name in the store. The file is opened without following symbolic links,
and only if it lies below the artifact store's root; the response is sent from that open file.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flickbook.errors import JobConflict, JobNotFound
from flickbook.jobs import signed_links as signed
from flickbook.jobs.artifacts import COMPARISON, NETWORK, PREVIEW, WEIGHTS
from flickbook.server.access.dependencies import Changer, Reader, guard_of
from flickbook.server.api import thumbnails
from flickbook.server.api.requests import Body
from flickbook.server.api.responses import ROOT, LinkResponse, media_type
from flickbook.server.errors import refusals
from flickbook.server.service import Service, service_of
from flickbook.server.submission.idempotency import ChangeKey
from flickbook.store.base import Job

Kind = Literal["film", "preview", "thumbnail", "sheet", "last", "recipe", "lora", "network", "comparison"]
Download = Annotated[bool, Query(description="Respond with Content-Disposition: attachment")]
_PIECE: Final = 1 << 17
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_TRAINED: Final = {"lora": WEIGHTS, "network": NETWORK, "comparison": COMPARISON}
_MADE: Final = re.compile(r"film-[0-9]{1,9}\.[a-z0-9]{2,5}")
#: A retried job may replace its film, so clients must revalidate.
_KEPT: Final = {
    "cache-control": "private, no-cache",
    "accept-ranges": "bytes",
}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The whole file",
        "content": {"video/mp4": _BINARY, "image/webp": _BINARY, "image/png": _BINARY},
    },
    204: {"description": "No preview is available yet"},
    206: {"description": "One range of it", "content": {"video/mp4": _BINARY, "image/webp": _BINARY}},
    304: {"description": "Not modified since the ETag in if-none-match"},
    **refusals(404, 416),
}
router = APIRouter(tags=["files"])


class Held(Response):
    """A response that sends an open file, whole or one range of it, and closes it afterwards.

    Raises HTTPException with 416 for a range outside of the file.
    """

    def __init__(
        self, request: Request, file: Any, size: int, kind: str, etag: str, name: str, download: bool, modified: float
    ) -> None:
        self.status_code, self.background, self.body = 200, None, b""
        self._file, self._size, self._etag = file, size, f'"{etag}"'
        place = "attachment" if download else "inline"
        self.init_headers(
            {
                **_KEPT,
                "content-type": kind,
                "etag": self._etag,
                "last-modified": formatdate(modified, usegmt=True),
                "content-disposition": f'{place}; filename="{name}"',
            }
        )
        del self.headers["content-length"]
        try:
            self._first, self._count = self._part(request.headers)
        except HTTPException:
            file.close()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or not self._count:
                await send({"type": "http.response.body", "body": b""})
                return
            await self._send(send, self._first, self._count)
        finally:
            self._file.close()

    def _part(self, headers: Mapping[str, str]) -> tuple[int, int]:
        """Return the first byte and the number of bytes to send; sets the status and headers."""
        if self._etag in [each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")]:
            self.status_code = 304
            return 0, 0
        unchanged = headers.get("if-range", self._etag) in (self._etag, self.headers["last-modified"])
        part = _range(headers.get("range", ""), self._size) if unchanged else None
        first, last = part or (0, self._size - 1)
        if part:
            self.status_code = 206
            self.headers["content-range"] = f"bytes {first}-{last}/{self._size}"
        self.headers["content-length"] = str(last + 1 - first)
        return first, last + 1 - first

    async def _send(self, send: Send, first: int, count: int) -> None:
        self._file.seek(first)
        while count:
            piece = await asyncio.to_thread(self._file.read, min(_PIECE, count))
            if not piece:
                break  # the file became shorter; the client notices by the content length
            count -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": count > 0})


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a single range. Several ranges or an invalid range return the whole file (RFC
    9110, 14.2). Raises HTTPException with 416."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(size - 1, int(match[2])) if match[1] and match[2] else size - 1
    if first > last:
        raise HTTPException(416, "the range lies outside the file", {"content-range": f"bytes */{size}"})
    return first, last


def film_of(service: Service, job: Job, id: str = "") -> Path:
    """Return the path of a job's film. Raises JobNotFound if there is none yet, JobConflict if a command wrote it
    elsewhere; its message calls the job `id`."""
    if job.result is None:
        raise JobNotFound(job.id)
    if job.home == "command":
        raise JobConflict(id or job.id, job.state, "downloaded", "was written to a file of the command that made it")
    name = Path(job.result.path).name
    if not _MADE.fullmatch(name) or not media_type(name):
        raise JobNotFound(job.id)
    return service.artifacts.of(job.id) / name


async def held(request: Request, path: Path, name: str, *, download: bool, digest: str = "") -> Response:
    """Return a response with a file of the artifact store; `digest` is its SHA-256 if known. Raises OSError."""
    found = await asyncio.to_thread(service_of(request).artifacts.opened, path)
    etag = digest or found.tag
    return Held(request, found.file, found.size, media_type(path.name), etag, name, download, found.modified)


async def file_of(request: Request, job: Job, kind: Kind, download: bool = False) -> Response:
    """Return a file of a job as a response. Raises JobNotFound if it does not exist, or not any more."""
    service = service_of(request)
    if kind == "recipe":
        return _recipe(request, job, download)
    if kind == "preview":
        path = service.artifacts.of(job.id) / PREVIEW
        if job.state in ("queued", "running"):
            service.artifacts.watch(job.id)
        if job.kind == "draft" and job.result is not None:
            path = film_of(service, job)
    elif kind in _TRAINED:
        path = _trained(service, job, _TRAINED[kind])
    else:
        path = film_of(service, job)
        if kind != "film":
            await asyncio.to_thread(service.artifacts.fetch, path)
        if kind == "thumbnail":
            path = await thumbnails.thumbnail(path)
        elif kind == "sheet":
            path = await thumbnails.sheet(path, job.plan.prompt)
        elif kind == "last":
            path = await thumbnails.last(path)
    known = job.result.sha256 if job.result is not None and kind == "film" else ""
    name = f"{job.id}{'' if kind == 'film' else f'-{kind}'}{path.suffix}"
    if kind == "lora":
        name = f"{service.artifacts.lora_name(job.id) or job.id}{path.suffix}"
    try:
        return await held(request, path, name, download=download, digest=known)
    except OSError:
        if kind == "preview" and job.state in ("queued", "running", "paused"):
            return Response(status_code=204)  # not yet
        raise JobNotFound(job.id) from None


def _trained(service: Service, job: Job, name: str) -> Path:
    """Return a file of a finished training. Raises JobNotFound for other jobs, JobConflict until it is completed."""
    if job.tuning is None or job.tuning.output:  # a command's LoRA is where the command put it
        raise JobNotFound(job.id)
    if job.state != "completed":
        raise JobConflict(job.id, job.state, "downloaded", "try again when its state is completed")
    return service.artifacts.tune(job.id, job.tuning.name) / name


def _recipe(request: Request, job: Job, download: bool) -> Response:
    recipe = None if job.result is None else job.result.sidecar.recipe
    if recipe is None:
        raise JobNotFound(job.id)
    text = json.dumps(recipe.model_dump(mode="json"), indent=1).encode("ascii")
    etag = recipe.plan.key() if recipe.plan.task != "polish" else recipe.frames_sha256
    name = f"{job.id}-recipe.json"
    return Held(request, BytesIO(text), len(text), "application/json", etag, name, download, job.finished_at)


def _served(kind: Kind, what: str, media: str) -> None:
    """Register the routes of one kind of file."""
    responses = {**_FILE, 200: {"description": what, "content": {media: _BINARY}}}
    responses[206] = {"description": "One range of it", "content": {media: _BINARY}}
    if kind == "recipe":
        responses[200] = {"description": what, "content": {media: {"schema": {"type": "object"}}}}
        responses[206] = {"description": "One range of it", "content": {media: _BINARY}}

    async def file(id: str, request: Request, caller: Reader, download: Download = False) -> Response:
        return await file_of(request, await service_of(request).queue.job(id, caller.sees), kind, download)

    path, options = f"{ROOT}/jobs/{{id}}/{kind}", {"response_class": Response, "responses": responses}
    router.get(path, name=f"job_{kind}", summary=what, operation_id=f"job_{kind}", **options)(file)  # type: ignore[arg-type]
    router.head(path, include_in_schema=False, response_class=Response)(file)


_served("film", "The film or image", "video/mp4")
_served("preview", "A preview of the running film, an animated WebP", "image/webp")
_served("thumbnail", "One frame of the film", "image/webp")
_served("sheet", "Eight frames of the film in one image", "image/png")
_served("last", "The last frame of the film", "image/png")
_served("lora", "The LoRA that a training made, in the layout of diffusers", "application/octet-stream")
_served("network", "The denoising network that a training with `full` made, of diffusers", "application/octet-stream")
_served("comparison", "Frames of the film without and with the result of a training", "image/png")
_served("recipe", "The recipe of the film", "application/json")


class LinkRequest(Body):
    """The file of a job that the link leads to, and the seconds for which it is valid."""

    file: Kind = "film"
    seconds: Annotated[int, Field(ge=1, le=signed.LONGEST)] = signed.USUAL
    download: bool = False


@router.post(
    f"{ROOT}/jobs/{{id}}/links",
    operation_id="make_link",
    responses=refusals(404, 413),
    summary="A signed link that needs no API key",
)
async def make_link(
    id: str, body: LinkRequest, request: Request, caller: Changer, idempotency: ChangeKey
) -> LinkResponse:
    """Create a signed link to a file of a job. It needs no API key, for example in a video player or a web page."""
    service = service_of(request)
    job = await service.queue.job(id, caller.sees)
    path = link_path(job.id, body.file) + ("?download=true" if body.download else "")
    since = None if idempotency is None else await idempotency.claim(service)
    since = time.time() if since is None else since
    url = await guard_of(request).link(caller, path, job.owner, body.seconds, since)
    return LinkResponse(url=url, expires_at=float(int(since) + body.seconds))


def link_path(id: str, kind: Kind) -> str:
    """Return the path of a file for signed links."""
    return f"/media/{id}/{kind}"


@router.get("/media/{id}/{kind}", operation_id="linked_file", response_class=Response, responses=_FILE)
@router.head("/media/{id}/{kind}", include_in_schema=False, response_class=Response)
async def linked_file(
    id: str,
    kind: Kind,
    request: Request,
    expires: Annotated[int, Query(ge=0, lt=10**12)],
    signature: Annotated[str, Query(pattern="^[0-9a-f]{64}$")],
    key: Annotated[str, Query(max_length=80)] = "",
    download: Download = False,
) -> Response:
    """Download a file by a signed link. It needs no API key; an invalid or expired link gets 404."""
    service = service_of(request)
    try:
        job = await service.queue.job(id)
    except JobNotFound:
        job = None
    target = f"{request.url.path}?{request.url.query}"
    # Also verified for a missing job, so that the response takes as long.
    holds = await guard_of(request).linked(target, "" if job is None else job.owner, key)
    if job is None or not holds:
        raise HTTPException(404, "no such file, or the link has expired")
    return await file_of(request, job, kind, download)
