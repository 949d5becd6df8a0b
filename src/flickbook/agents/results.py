"""The answers of the tools: films with their jobs, and models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from flickbook.agents.tool import Call
from flickbook.catalogue import Model
from flickbook.engine.polish import finished
from flickbook.errors import FlickbookError
from flickbook.hub.find import found
from flickbook.server.api.responses import JobResponse, job_response, media_type
from flickbook.store.base import Job, Kind, State


class Film(BaseModel):
    """A film and the job that makes it."""

    id: str = Field(description="Id of the job, for the other tools. It stays valid after a restart")
    kind: Kind
    state: State
    prompt: str
    model: str
    seed: int
    width: int
    height: int
    num_frames: int = Field(description="Of a looped film, the most that it may have")
    fps: float
    progress: float = Field(description="Share of the work that is done, 0 to 1")
    phase: str = Field("", description="What a running job does now")
    eta_seconds: float | None = Field(None, description="Seconds until it is done, if that is known")
    place: int | None = Field(None, description="Position in the queue; 1 runs next")
    favourite: bool = False
    parent: str | None = Field(None, description="Id of the draft or film that it continues")
    created_at: str
    changed_at: str = Field(description="When its state or its progress last changed")
    error: str | None = Field(None, description="Why it failed")
    notes: list[str] = []
    scores: dict[str, float] = Field({}, description="Measured scores of a finished film")
    media_type: str | None = None
    bytes: int | None = None
    url: str | None = Field(None, description="Where the finished film is: a file or an address")


class Films(BaseModel):
    """Films, in the order in which they were named or made."""

    films: list[Film]
    has_more: bool = Field(False, description="Whether a search found more films than its limit")


class ModelFacts(BaseModel):
    """A model: what it can do and its limits."""

    name: str
    summary: str
    here: bool = Field(description="Whether its files are on this machine")
    download_gb: float
    licence: str
    commercial: str = Field(description="Whether its licence allows commercial use")
    inputs: list[str] = Field(description="What a film may begin from: text, image, video")
    accepts: list[str] = Field(description="Further inputs, as last_image, conditions, control_video")
    size: tuple[int, int] = Field(description="Default width and height")
    num_frames: tuple[int, int] = Field(description="Least and most frames of a film")
    default_num_frames: int
    fps: float
    default_num_inference_steps: int
    good_at: str
    faults: str
    example: str | None = Field(None, description="A prompt that shows what it is good at")


class Models(BaseModel):
    """Models. `default` is the one that is used if a film names none."""

    default: str
    models: list[ModelFacts]


async def films_of(call: Call, jobs: Sequence[Job], *, has_more: bool = False, links: bool = True) -> Films:
    """Return jobs as films; with `links`, finished ones have their `url`, which is signed for this caller."""
    favourites = await call.service.queue.favourites(jobs)
    return Films(films=[await _film(call, job, favourites, links) for job in jobs], has_more=has_more)


async def _film(call: Call, job: Job, favourites: set[str], links: bool) -> Film:
    place, eta = await call.parts.line.of(job)
    shown = job_response(call.service.artifacts, job, place, eta, favourites=favourites)
    size = shown.result or finished(job.plan)
    url = ""
    if links and job.state == "completed" and job.kind != "tune":
        try:
            url = await call.access.address(call.caller, job)
        except FlickbookError:  # its file is gone or lies elsewhere
            url = ""
    made = shown.result
    return Film(
        id=job.id,
        kind=job.kind,
        state=job.state,
        prompt=shown.prompt,
        model=shown.model,
        seed=shown.seed,
        width=size.width,
        height=size.height,
        num_frames=size.num_frames,
        fps=size.fps,
        progress=_share(call, job, shown),
        phase="" if shown.progress is None else shown.progress.phase,
        eta_seconds=None if shown.eta_seconds is None else round(shown.eta_seconds, 1),
        place=place,
        favourite=shown.favourite,
        parent=shown.parent,
        created_at=_date(job.created_at),
        changed_at=_date(_changed_at(call, job)),
        error=None if shown.error is None else shown.error.message,
        notes=[] if made is None else made.notes,
        scores={} if made is None else made.scores,
        media_type=None if job.result is None else media_type(job.result.path) or None,
        bytes=None if made is None else made.bytes,
        url=url or None,
    )


def _changed_at(call: Call, job: Job) -> float:
    """Return the time, in seconds since 1970, at which the state or the progress of a job last changed."""
    told = call.service.artifacts.progress_at(job.id) if job.attempt and not job.finished_at else 0.0
    return max(job.created_at, job.started_at, job.finished_at, told)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _share(call: Call, job: Job, shown: JobResponse) -> float:
    """Return the share of a job's work that is done. An interrupted job keeps that of its last attempt."""
    if job.state == "completed":
        return 1.0
    if shown.progress is not None:
        fraction = shown.progress.fraction
    else:
        last = call.service.artifacts.progress(job.id) if job.attempt else {}
        fraction = float(last.get("fraction", 0.0)) if last.get("attempt") == job.attempt else 0.0
    return round(max(job.reached, fraction), 3)


async def models_of(models: Sequence[Model], default: str, *, here: bool) -> Models:
    """Return models as facts; with `here` only those whose files are on this machine."""

    def facts() -> list[ModelFacts]:
        return [each for model in models if (each := _facts(model)).here or not here]

    return Models(default=default, models=await asyncio.to_thread(facts))


def _facts(model: Model) -> ModelFacts:
    return ModelFacts(
        name=model.name,
        summary=model.summary,
        here=found(model) is not None,
        download_gb=model.download_gb,
        licence=model.licence,
        commercial=model.commercial,
        inputs=list(model.inputs),
        accepts=list(model.accepts),
        size=model.sizes[0],
        num_frames=model.num_frames.range,
        default_num_frames=model.num_frames.default,
        fps=model.fps.default,
        default_num_inference_steps=model.num_inference_steps.default,
        good_at=model.good_at,
        faults=model.faults,
        example=model.examples[0] if model.examples else None,
    )
