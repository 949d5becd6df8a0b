"""Films made of films: edits, extensions, remixes and the same again, each a job with a copy of what it begins from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from starlette.responses import JSONResponse, Response

from flickbook.engine.sequences.sequence import DRIFT
from flickbook.errors import RequestError
from flickbook.jobs.create import ordered, sequenced
from flickbook.server.compatible import variants
from flickbook.server.compatible.fields import EditVideo, film_of, frames_of, named, polish_options_of
from flickbook.server.compatible.models import model_of
from flickbook.server.compatible.responses import mark_remix, video_id
from flickbook.server.service import Service
from flickbook.server.submission import uploads
from flickbook.server.submission.submit import film_path
from flickbook.spec import Plan, Polish, Request
from flickbook.store.base import Job

#: Makes the job, under an id, of a film that is made of another.
Revise = Callable[..., Job]
#: Where the worker looks for the film that an extension is joined behind.
_PARENT: Final = "given-parent"


def moving(job: Job) -> Job:
    """A job that is a film. Raises RequestError for a picture."""
    if job.plan.num_frames == 1:
        limit = f"a video has 2 frames or more, and {job.plan.model} was asked for one"
        raise RequestError("num_frames", 1, limit, "ask /v1/images/generations for pictures")
    return job


def edit(
    service: Service, id: str, wanted: EditVideo, sent: IO[bytes] | None, parent: Job | None, *, owner: str
) -> Job:
    """The job that makes a film anew from another: a file that was `sent`, or what `parent` made. It blocks."""
    place = service.artifacts.made(id)
    usual = service.settings.model if parent is None else parent.plan.model
    model = model_of(wanted.model, usual)
    path = _film(service, sent, parent, place, "given-video")
    film = film_of(wanted, model, service.loras, video=str(path))
    with named(wanted):
        return moving(ordered(film, polish_options_of(wanted), owner=owner))


def extend(
    service: Service, id: str, wanted: EditVideo, sent: IO[bytes] | None, parent: Job | None, *, owner: str
) -> Job:
    """The job that goes on from the last frame of a film. It blocks.

    What is not said is as it was in the film of `parent`, so that both fit.
    """
    place = service.artifacts.made(id)
    path = _film(service, sent, parent, place, _PARENT)
    image = variants.last_frame(path, place, "given-image")
    usual = service.settings.model if parent is None else parent.plan.model
    model = model_of(wanted.model, usual)
    request = film_of(wanted, model, service.loras, image=str(image))
    polish_options = polish_options_of(wanted)
    if parent is None:
        with named(wanted):
            return moving(ordered(request, polish_options, kind="extension", owner=owner))
    frames = frames_of(wanted.seconds, wanted.num_frames, wanted.fps or parent.plan.fps, model)
    request = _behind(request.model_copy(update={"num_frames": frames}), parent, wanted)
    with named(wanted):
        job = moving(ordered(request, polish_options, kind="extension", parent=parent.id, owner=owner))
    return job if polish_options else job.model_copy(update={"networks": parent.networks})


def _behind(request: Request, parent: Job, wanted: EditVideo) -> Request:
    """A request with the parent's choices where it makes none; what has to do with its begin or its end is left out."""
    container = wanted.container or parent.plan.container
    own = {"prompt_at": None, "image": None, "video": None, "strength": None, "seed": None, "num_frames": None}
    if container != parent.plan.container:
        own |= {"codec": None, "quality": None, "pixel_format": None}
    polish = (parent.request.polish or Polish()).model_copy(update={"trim": None, "loop": ""})
    said = {name: getattr(request, name) for name in Request.model_fields if getattr(request, name) is not None}
    said["container"] = "mp4" if container == "frames" else container
    return parent.request.model_copy(update=own | {"polish": polish} | said)


def remix(service: Service, id: str, parent: Job, prompt: str, *, owner: str) -> Job:
    """The job of the same Plan with other words. It blocks."""
    mark_remix(service.artifacts.made(id), parent.id)
    return again(service, id, parent, prompt=prompt, seed=seed_of(parent), owner=owner)


def seed_of(job: Job) -> int:
    """The seed of what a job made; where it tried several, that of the one it chose."""
    recipe = None if job.result is None else job.result.sidecar.recipe
    return recipe.plan.seed if recipe is not None and isinstance(recipe.plan, Plan) else job.plan.seed


def again(service: Service, id: str, parent: Job, *, prompt: str | None, seed: int | None, owner: str) -> Job:
    """The job of the same request, which the queue runs, with a copy of what it begins from. It blocks.

    A `prompt` of None is the same one, a `seed` of None is drawn. Raises RequestError for a file that is gone or was
    changed.
    """
    if parent.kind == "sequence":
        return _sequence(parent, prompt=prompt, seed=seed, owner=owner)
    place = service.artifacts.made(id)
    changes: dict[str, object] = {"model": parent.plan.model, "seed": seed}
    if prompt is not None:
        changes["prompt"] = prompt
    for name in ("image", "video"):
        if (path := getattr(parent.request, name)) is not None:
            changes[name] = str(uploads.again(Path(path), place, f"given-{name}", name))
    if parent.plan.container == "frames":
        changes |= {"container": "mp4", "codec": None, "quality": None, "pixel_format": None}
    if parent.kind == "extension":
        for film in service.artifacts.of(parent.id).glob(f"{_PARENT}.*"):
            uploads.again(film, place, _PARENT)
    home = Path(parent.model_dir) if parent.model_dir else None
    job = ordered(
        parent.request.model_copy(update=changes),
        kind=parent.kind,
        parent=parent.parent if parent.kind == "extension" else "",
        owner=owner,
        model_dir=home,
        until=parent.until,
        precision=parent.precision,
        thresholds=parent.thresholds,
        retries=parent.retries,
    )
    for name in ("image", "video", "loras"):  # a command's lie where anybody may write
        if getattr(job.plan, name) != getattr(parent.plan, name):
            raise RequestError(name, parent.id, "its file was changed since", "ask for a new job")
    return job.model_copy(update={"networks": parent.networks})


def _sequence(parent: Job, *, prompt: str | None, seed: int | None, owner: str) -> Job:
    """The job of the same sequence, whose first prompt may be another."""
    plan = parent.plan
    prompts = [plan.prompt if prompt is None else prompt, *(text for _, text in plan.prompt_at)]
    return sequenced(
        prompts,
        parent.request.model_copy(update={"model": plan.model, "seed": seed}),
        frames_per=plan.num_frames // len(prompts),
        drift=DRIFT if plan.drift is None else plan.drift,
        feedback=plan.feedback or 0.0,
        owner=owner,
        model_dir=Path(parent.model_dir) if parent.model_dir else None,
        precision=parent.precision,
    )


def _film(service: Service, sent: IO[bytes] | None, parent: Job | None, place: Path, stem: str) -> Path:
    """The film that a job begins from, in its own directory."""
    if sent is not None:
        return uploads.keep("video", sent, place, stem, "film")
    assert parent is not None
    return uploads.again(film_path(service, parent, video_id(parent.id)), place, stem)


def failure(job: Job) -> Response:
    """The answer to whoever waited for a job that made nothing: one that no client asks again by itself."""
    code = job.error_code or job.state
    message = job.error or f"the job was {job.state}"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, 400, {"x-should-retry": "false"})
