"""Responses of the OpenAI-compatible API: jobs as videos, and the errors of its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from flickbook.engine.polish import finished
from flickbook.errors import JobNotFound
from flickbook.jobs.queue import Queue
from flickbook.server import errors
from flickbook.server.compatible.fields import Fields
from flickbook.server.errors import CompatibleRefusal
from flickbook.server.service import Caller
from flickbook.spec import Plan
from flickbook.store.base import ID, Job, Kind, State

#: The kinds of jobs that are videos. Images and drafts are not; nor are sequences, which cannot be created here and
#: have no single prompt to remix.
VIDEOS: Final[tuple[Kind, ...]] = ("film", "extension")
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
_STATUS: Final[dict[State, Status]] = {
    "queued": "queued",
    "paused": "queued",
    "running": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "expired": "failed",
    "cancelled": "cancelled",
}
_PREFIX: Final = "video_"
#: The file of earlier versions in a job's directory, with the id of the job that it is a remix of.
_ORIGIN: Final = "remixed-from"
#: Milliseconds between two polls, for a fast model and for the others.
_SOON: Final = 200
_LATER: Final = 1000

#: The error statuses of routes that create something, beside those of every route.
MAKING: Final = (404, 413, 415, 501, 507)
refusals = partial(errors.refusals, model=CompatibleRefusal)


class Failure(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """A job in the form of the OpenAI API, with its resolved seed, frames, rate, steps and guidance."""

    id: Annotated[str, Field(examples=["video_01k9z4x7d2m3n4p5q6r7s8t9v0"])]
    object: Literal["video"] = "video"
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    model: str
    status: Status
    progress: Annotated[int, Field(ge=0, le=100)]
    prompt: str
    seconds: Annotated[str, Field(examples=["2"])]
    size: Annotated[str, Field(examples=["128x128"])]
    remixed_from_video_id: str | None = None
    error: Failure | None = None
    seed: int
    num_frames: int
    fps: float
    num_inference_steps: int
    guidance_scale: float
    eta_seconds: float | None = None
    frames_sha256: str | None = None
    ignored: Annotated[list[str] | None, Field(description="Fields of the request that have no effect.")] = None
    replaced: Annotated[dict[str, str] | None, Field(description="Requested values that an alias replaced.")] = None


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool


class VideoDeleted(BaseModel):
    """A deleted video."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def video_id(job_id: str) -> str:
    """Return the video id of a job."""
    return _PREFIX + job_id.partition("_")[2]


async def video_job(queue: Queue, id: str, caller: Caller) -> Job:
    """Return the job of a video that a caller may see. Raises the same JobNotFound for every other id."""
    if not ID.fullmatch(id) or not id.startswith(_PREFIX):
        raise JobNotFound(id)
    try:
        job = await queue.job("job_" + id.removeprefix(_PREFIX), caller.sees)
    except JobNotFound:
        raise JobNotFound(id) from None
    if job.kind not in VIDEOS:
        raise JobNotFound(id)
    return job


def video_of(
    queue: Queue,
    job: Job,
    ignored: Sequence[str] = (),
    eta: float | None = None,
    replaced: Mapping[str, str] | None = None,
) -> Video:
    """Return a job as a video; `eta` is the seconds until it is done, if the caller knows them."""
    progress = queue.artifacts.progress(job.id) if job.state == "running" else {}
    result = job.result if job.state == "completed" else None
    recipe = None if result is None else result.sidecar.recipe
    size = finished(job.plan if recipe is None else recipe.plan)
    return Video(
        id=video_id(job.id),
        created_at=int(job.created_at),
        completed_at=int(job.finished_at) if result is not None else None,
        model=job.plan.model,
        status=_STATUS[job.state],
        progress=_progress(job, progress.get("fraction")),
        prompt=job.plan.prompt,
        seconds=f"{size.num_frames / size.fps:.6g}",
        size=f"{size.width}x{size.height}",
        remixed_from_video_id=_origin(queue, job),
        error=_failure(job),
        seed=recipe.plan.seed if recipe is not None and isinstance(recipe.plan, Plan) else job.plan.seed,
        num_frames=size.num_frames,
        fps=size.fps,
        num_inference_steps=job.plan.num_inference_steps,
        guidance_scale=job.plan.guidance_scale,
        eta_seconds=_number(progress.get("eta_seconds")) if eta is None else round(eta, 2),
        frames_sha256=None if recipe is None else recipe.frames_sha256,
        ignored=list(ignored) or None,
        replaced=dict(replaced or {}) or None,
    )


def _progress(job: Job, fraction: object) -> int:
    if job.state == "completed":
        return 100
    share = max(job.reached, _number(fraction) or 0.0)
    return min(99, int(100 * share))  # the file does not exist yet


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _failure(job: Job) -> Failure | None:
    if job.state == "expired":
        return Failure(code="expired", message="expired before it started")
    if job.state == "failed":
        return Failure(code=job.error_code or "failed", message=job.error or "unknown error")
    return None


def poll_after(job: Job) -> dict[str, str]:
    """Return the header that tells a client when to poll again."""
    return {"openai-poll-after-ms": str(_SOON if job.plan.model == "builtin" else _LATER)}


def _origin(queue: Queue, job: Job) -> str | None:
    """Return the id of the video that a job is a remix of."""
    found = job.remix_of
    if not found:  # stores of earlier versions have it in a file
        with suppress(OSError):
            found = (queue.artifacts.of(job.id) / _ORIGIN).read_text(encoding="ascii", errors="replace")
    return video_id(found) if ID.fullmatch(found) else None


def inlined(of: type[Fields], **files: str) -> dict[str, Any]:
    """Return the JSON Schema of a body without references, for use in a route; `files` are fields of a form."""
    schema = of.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return whole(parts[node["$ref"].rpartition("/")[2]])
            return {key: whole(value) for key, value in node.items()}
        return [whole(each) for each in node] if isinstance(node, list) else node

    found: dict[str, Any] = whole(schema)
    for name, about in files.items():
        found["properties"] = found["properties"] | {name: {"type": "string", "format": "binary", "description": about}}
    return found


def body_schema(of: type[Fields], example: dict[str, Any], **files: str) -> dict[str, Any]:
    """Return `openapi_extra` for a body that is JSON, or a form with `files`, each a field and its description."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": inlined(of), "example": example},
                "multipart/form-data": {"schema": inlined(of, **files), "example": example},
            },
        }
    }
