"""Responses of /api/v1 about jobs. They contain no paths; times are in seconds since 1970; missing values are null."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from flickbook.engine.polish import finished
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.server.service import Service
from flickbook.spec import Plan, Polish, Run
from flickbook.store.base import DONE, Job, Kind, State

ROOT: Final = "/api/v1"


class Progress(BaseModel):
    """The progress of a running job: step `index` of `total` in a `phase`, and the `fraction` of its work that is done.

    While the model of a queued job is being downloaded, the phase is pull, and `index` and `total` are bytes.
    """

    phase: str = ""
    index: int = 0
    total: int = 0
    fraction: float = 0.0
    eta_seconds: float | None = None


class Failure(BaseModel):
    """Why a job failed, or why its last attempt ended. `code` is stable."""

    code: str
    message: str


class Made(BaseModel):
    """The result: bytes and SHA-256 of the file, SHA-256 of the frames before encoding, and the size in pixels.

    For a film that was looped, `num_frames` is the most frames that it may have.
    """

    media_type: str
    width: int
    height: int
    num_frames: int
    fps: float
    bytes: int
    sha256: str
    frames_sha256: str | None = None
    scores: dict[str, float] = {}
    notes: list[str] = []


class JobResponse(BaseModel):
    """A job. `stopping` is the requested action at its next step; `place` 1 runs next."""

    id: str
    object: Literal["job"] = "job"
    kind: Kind
    state: State
    stopping: Literal["", "pause", "cancel"] = ""
    prompt: str
    model: str
    seed: int
    favourite: bool
    priority: int
    attempt: int
    parent: str | None = None
    until: float | None = None
    lora: str | None = Field(
        default=None, description="Name of the LoRA that a training makes; films can use it once the job is completed"
    )
    place: int | None = Field(
        default=None, description="Position in the queue; null if the job is not queued or is far back"
    )
    eta_seconds: float | None = Field(
        default=None, description="Seconds until the job is done; null if no similar job ran before"
    )
    progress: Progress | None = None
    seconds: float = Field(description="Seconds of device time of all attempts")
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    error: Failure | None = None
    result: Made | None = None
    plan: Plan
    links: dict[str, str]


class Page(BaseModel):
    """A page of jobs. If `has_more`, request the next page with `after` set to `last_id`."""

    object: Literal["list"] = "list"
    data: list[JobResponse]
    first_id: str | None
    last_id: str | None
    has_more: bool


class JobList(BaseModel):
    """Jobs that were created together."""

    object: Literal["list"] = "list"
    data: list[JobResponse]


class Deleted(BaseModel):
    """A deleted object."""

    id: str
    object: str
    deleted: Literal[True] = True


class QueueResponse(BaseModel):
    """The number of jobs in each state and the seconds until they are done, null if unknown. Counts the caller's jobs;
    for an admin, all jobs."""

    counts: dict[State, int]
    eta_seconds: float | None


class LinkResponse(BaseModel):
    """A signed link to a file, valid until it expires."""

    url: str
    expires_at: float


#: Suffix -> media type of the files that are served. A browser executes none of them.
MEDIA: Final = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
    ".apng": "image/apng",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".avif": "image/avif",
    ".safetensors": "application/octet-stream",
}


def media_type(name: str) -> str:
    """Return the media type of a file, "" for one that is not served."""
    return MEDIA.get(os.path.splitext(name)[1].lower(), "")


def made(job: Job) -> Made | None:
    """Return the result of a job, None while there is none."""
    if job.result is None:
        return None
    sidecar = job.result.sidecar
    run, recipe = sidecar.run, sidecar.recipe
    # A draft is served without its polish; the recipe of an extension describes both parts.
    plan = job.plan if recipe is None else recipe.plan
    size = finished(plan if job.kind != "draft" else plan.model_copy(update={"polish": Polish()}))
    return Made(
        media_type=media_type(job.result.path),
        width=size.width,
        height=size.height,
        num_frames=size.num_frames,
        fps=size.fps,
        bytes=job.result.bytes,
        sha256=job.result.sha256,
        frames_sha256=None if recipe is None else recipe.frames_sha256,
        scores={} if run is None else run.scores,
        notes=[] if run is None else list(run.notes),
    )


def links(job: Job) -> dict[str, str]:
    """Return the paths of a job's further resources, by name."""
    own = f"{ROOT}/jobs/{job.id}"
    names = ["events", "log", "preview"]
    if job.result is not None and job.home == "queue":
        names += ["film", "thumbnail", "sheet", "last"]
        if job.tuning is not None:
            names += ["network" if job.tuning.full else "lora", "comparison"]
    if job.result is not None and job.result.sidecar.recipe is not None:
        names += ["recipe", "run"]
    return {"self": own} | {name: f"{own}/{name}" for name in names}


def progress(artifacts: ArtifactStore, job: Job) -> Progress | None:
    """Return the progress of a running job, or of the model download of a queued one, in bytes.

    Progress of an earlier attempt is ignored.
    """
    if job.state == "queued" and not job.model_dir and (pulling := artifacts.pulling(job.plan.model)):
        return Progress(phase="pull", index=pulling["index"], total=pulling["total"])
    if job.state != "running":
        return None
    found = artifacts.progress(job.id)
    if found.get("attempt", job.attempt) != job.attempt:
        return Progress()
    return Progress.model_validate({name: found[name] for name in Progress.model_fields if name in found})


def job_response(
    artifacts: ArtifactStore,
    job: Job,
    place: int | None = None,
    eta: float | None = None,
    *,
    favourites: Collection[str],
) -> JobResponse:
    """Return a job as a response; `favourites` are the ids of the favourites among the listed jobs."""
    now = progress(artifacts, job)
    message = job.error.replace(f"{artifacts.of(job.id)}{os.sep}", "")
    return JobResponse(
        id=job.id,
        kind=job.kind,
        state=job.state,
        stopping=job.wanted if job.state == "running" else "",
        prompt=job.plan.prompt,
        model=job.plan.model,
        seed=job.plan.seed,
        favourite=job.id in favourites,
        priority=job.priority,
        attempt=job.attempt,
        parent=job.parent or None,
        until=job.until if job.kind == "draft" else None,
        lora=_lora(artifacts, job),
        place=place,
        eta_seconds=_eta(now, eta),
        progress=now,
        seconds=job.seconds,
        created_at=job.created_at,
        started_at=job.started_at or None,
        finished_at=(job.finished_at or None) if job.state in DONE else None,
        expires_at=job.expires_at or None,
        error=Failure(code=job.error_code, message=message) if message else None,
        result=made(job),
        plan=job.plan,
        links=links(job),
    )


def _lora(artifacts: ArtifactStore, job: Job) -> str | None:
    """Return the name of the LoRA of a training: the one it was published under, or else the one that was asked for."""
    if job.tuning is None or job.tuning.full:
        return None
    return artifacts.lora_name(job.id) or job.tuning.name or None


def page_fields(data: Sequence[Any], has_more: bool) -> dict[str, Any]:
    """Return the fields of a page of responses."""
    ids = [each.id for each in data]
    return {
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
    }


async def list_response(service: Service, jobs: Sequence[Job]) -> JobList:
    """Return jobs that were created together as a response."""
    favourites = await service.queue.favourites(jobs)
    return JobList(data=[job_response(service.artifacts, job, favourites=favourites) for job in jobs])


def _eta(now: Progress | None, usual: float | None) -> float | None:
    """Return the seconds until a job is done; None while its model is being downloaded."""
    if now is None:
        return usual
    if now.phase == "pull":
        return None
    return usual if now.eta_seconds is None else now.eta_seconds


def run_response(run: Run) -> Run:
    """Return a run report without the directories of this machine."""
    return run.model_copy(update={"inputs": {digest: Path(path).name for digest, path in run.inputs.items()}})
