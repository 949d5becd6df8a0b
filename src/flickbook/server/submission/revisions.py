"""Jobs made from films: edits, extensions, remixes and repeats. Each job keeps a copy of its input."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from starlette.responses import JSONResponse, Response

from flickbook.catalogue import find
from flickbook.conditioning import INPUTS, files, overlap_of, relocated
from flickbook.engine.kept_latents import KeptLatents
from flickbook.engine.polish import PolishOptions
from flickbook.engine.sequences.sequence import DRIFT
from flickbook.errors import JobConflict, MediaError, RequestError
from flickbook.jobs.create import ordered, sequenced, shot_again
from flickbook.jobs.workers.output import PARENT, latents_path
from flickbook.resolution import DRAWN_SEED_BITS, SEED_LIMIT
from flickbook.server.api import thumbnails
from flickbook.server.compatible.fields import EditVideo, film_of, frames_of, named, polish_options_of
from flickbook.server.compatible.models import model_of
from flickbook.server.compatible.responses import video_id
from flickbook.server.service import Service
from flickbook.server.submission import uploads
from flickbook.server.submission.submit import film_path
from flickbook.spec import NO_AUDIO, Plan, Polish, Request
from flickbook.store.base import Job

#: Creates the job with a given id from another film.
Revise = Callable[..., Job]


def moving(job: Job) -> Job:
    """Return the job if it makes a film. Raises RequestError for an image."""
    if job.plan.num_frames == 1:
        limit = f"a video has 2 frames or more, and this job of {job.plan.model} is an image"
        raise RequestError("num_frames", 1, limit, "use /v1/images/generations for images")
    return job


def edit(
    service: Service, id: str, fields: EditVideo, sent: IO[bytes] | None, parent: Job | None, *, owner: str
) -> Job:
    """Create the job that edits a film: an uploaded file (`sent`) or the result of `parent`. Blocks."""
    place = service.artifacts.made(id)
    usual = service.settings.model if parent is None else parent.plan.model
    model = model_of(fields.model, usual)
    path = _film(service, sent, parent, place, "given-video")
    film = film_of(fields, model, service.loras_of(owner), video=str(path))
    with named(fields):
        return moving(ordered(film, polish_options_of(fields), owner=owner))


def extend(
    service: Service, id: str, fields: EditVideo, sent: IO[bytes] | None, parent: Job | None, *, owner: str
) -> Job:
    """Create the job that continues a film: from its kept latents, or from its last frame without them. Blocks.

    Options that are not set are those of the `parent` film, so that both parts match.
    """
    place = service.artifacts.made(id)
    path = _film(service, sent, parent, place, PARENT)
    usual = service.settings.model if parent is None else parent.plan.model
    model = model_of(fields.model, usual)
    polish_options = polish_options_of(fields)
    request = film_of(fields, model, service.loras_of(owner))
    image = place / "given-image.png"
    if parent is None:
        request = request.model_copy(update={"image": str(thumbnails.last_frame(path, image))})
        with named(fields):
            return moving(ordered(request, polish_options, kind="extension", owner=owner))
    frames = frames_of(fields.seconds, fields.num_frames, fields.fps or parent.plan.fps, model)
    request = _behind(request.model_copy(update={"num_frames": frames}), parent, fields)
    how: dict[str, Any] = {"kind": "extension", "parent": parent.id, "owner": owner}
    with named(fields):
        job = _continued(service, request, polish_options, parent, place, how)
        if job is None:
            request = request.model_copy(update={"image": str(thumbnails.last_frame(path, image))})
            job = moving(ordered(request, polish_options, **how))
    return job if polish_options else job.model_copy(update={"networks": parent.networks})


def _continued(
    service: Service,
    request: Request,
    polish_options: PolishOptions | None,
    parent: Job,
    place: Path,
    how: Mapping[str, Any],
) -> Job | None:
    """Return the job that continues from the latents kept beside the parent film; None if it has to begin from an
    image: without latents or with those of another film, for another model, size or LoRAs, and if the film's end was
    changed after it was made.

    The frames that both films share are cut off by the polish of the new one. Raises the errors of `ordered`.
    """
    model, plan = find(request.model), parent.plan
    changed = parent.home != "queue" or not plan.polish.keeps_end(plan.num_frames)
    whole = request.prompt_at or request.latent_upsample
    if not model.overlap or request.speed == "turbo" or whole or changed:
        return None
    parent = service.artifacts.localised(parent)
    source = latents_path(film_path(service, parent, video_id(parent.id)))
    try:
        service.artifacts.fetch(source)
        kept = KeptLatents.read(source)
    except MediaError:
        return None
    recipe = None if parent.result is None else parent.result.sidecar.recipe
    # An extension's recipe is that of the joined film, and its latents are those of the new part.
    if parent.kind != "extension" and (recipe is None or kept.frames_sha256 != recipe.frames_sha256):
        return None
    every = model.num_frames.every
    frames = model.num_frames.default if request.num_frames is None else request.num_frames
    # With the last frame repeated, as overlap_of counts: a model that makes any number of frames makes one more.
    frames += every == 1
    overlap = overlap_of(model, (kept.latents.shape[1] - 1) * every + 1, frames)
    if not overlap:
        return None
    path, total = uploads.again(source, place, "given-latents", "latents"), frames + overlap - 1
    polish = (request.polish or Polish()).model_copy(update={"trim": (overlap, total)})
    changes = {"latents": str(path), "overlap": overlap, "num_frames": total, "polish": polish}
    options = _without_overlap(polish_options, overlap, total)
    job = moving(ordered(request.model_copy(update=changes), options, **how))
    if kept.fit(job.plan):
        return job
    path.unlink()
    return None


def _without_overlap(polish_options: PolishOptions | None, overlap: int, total: int) -> PolishOptions | None:
    """Return polish options that cut off the frames that a film shares with the one that it continues."""
    if not polish_options or not overlap:
        return polish_options
    if polish_options.get("trim"):
        limit = "cannot be set: the film continues another one, whose frames are cut off"
        raise RequestError("trim", polish_options["trim"], limit, "leave it out, and trim the finished film")
    return {**polish_options, "trim": f"{overlap}:{total}f"}


def _behind(request: Request, parent: Job, fields: EditVideo) -> Request:
    """Return the request with the parent's values for unset fields, except those about the start or end of a film."""
    container = fields.container or parent.plan.container
    names = (*INPUTS, "conditions", "control", "prompt_at", "seed", "num_frames", "strength")
    own: dict[str, Any] = dict.fromkeys((*names, "overlap", "audio_fit", "audio_fade"))
    own["audio"] = NO_AUDIO if parent.plan.audio == NO_AUDIO else None
    if container != parent.plan.container:
        own |= {"codec": None, "quality": None, "pixel_format": None}
    polish = (parent.request.polish or Polish()).model_copy(update={"trim": None, "loop": ""})
    explicit = {name: getattr(request, name) for name in Request.model_fields if getattr(request, name) is not None}
    explicit["container"] = "mp4" if container == "frames" else container
    return parent.request.model_copy(update=own | {"polish": polish} | explicit)


def remix(service: Service, id: str, parent: Job, prompt: str, *, owner: str) -> Job:
    """Create the job of the same Plan with another prompt. Blocks."""
    job = again(service, id, parent, prompt=prompt, seed=seed_of(parent), owner=owner)
    return job.model_copy(update={"remix_of": parent.id})


def seed_of(job: Job) -> int:
    """Return the seed of a job's result; if the job tried several seeds, the chosen one."""
    recipe = None if job.result is None else job.result.sidecar.recipe
    return recipe.plan.seed if recipe is not None and isinstance(recipe.plan, Plan) else job.plan.seed


def again(
    service: Service,
    id: str,
    parent: Job,
    *,
    prompt: str | None,
    seed: int | None,
    owner: str,
    polish_options: PolishOptions | None = None,
) -> Job:
    """Create a job from the same request, with a copy of its input files. Blocks.

    A `prompt` of None keeps the prompt; a `seed` of None draws a new one. `polish_options` replace those of the first
    job. Raises RequestError for an input file that is gone or was changed, and for polish options of a
    sequence or of shots.
    """
    if parent.kind == "tune":
        raise JobConflict(parent.id, "a training", "repeated", "send its clips to POST /api/v1/tunes")
    if polish_options and parent.kind in ("sequence", "shots"):
        limit = f"{parent.id} is of the kind {parent.kind}, which is repeated as it is"
        raise RequestError("polish", ", ".join(polish_options), limit, "leave it out")
    parent = service.artifacts.localised(parent)
    service.artifacts.fetch_job(parent.id)
    place = service.artifacts.made(id)
    changes: dict[str, object] = {"model": parent.plan.model, "seed": seed}
    if prompt is not None:
        changes["prompt"] = prompt
    changes |= relocated(
        parent.request, lambda name, path: str(uploads.again(Path(path), place, f"given-{name}", name))
    )
    if parent.plan.container == "frames":
        changes |= {"container": "mp4", "codec": None, "quality": None, "pixel_format": None}
    if parent.kind == "extension":
        for film in service.artifacts.of(parent.id).glob(f"{PARENT}.*"):
            uploads.again(film, place, PARENT)
    home = Path(parent.model_dir) if parent.model_dir else None
    if parent.kind == "sequence":
        return _sequence(parent, changes, prompt=prompt, seed=seed, owner=owner)
    if parent.kind == "shots":
        return _shots(parent, changes, prompt=prompt, seed=seed, owner=owner)
    job = ordered(
        parent.request.model_copy(update=changes),
        _without_overlap(polish_options, parent.plan.overlap, parent.plan.num_frames),
        kind=parent.kind,
        parent=parent.parent if parent.kind == "extension" else "",
        owner=owner,
        model_dir=home,
        until=parent.until,
        precision=parent.precision,
        thresholds=parent.thresholds,
        retries=parent.retries,
    )
    for (name, here), (_, there) in zip(files(job.plan), files(parent.plan), strict=True):
        if here != there:  # input files of a command's job may lie where anybody can write
            raise RequestError(name, parent.id, "its file was changed", "create a new job")
    if job.plan.loras != parent.plan.loras:
        raise RequestError("loras", parent.id, "its file was changed", "create a new job")
    return job if polish_options else job.model_copy(update={"networks": parent.networks})


def _sequence(parent: Job, changes: dict[str, object], *, prompt: str | None, seed: int | None, owner: str) -> Job:
    """Create the job of the same sequence, optionally with another first prompt."""
    plan = parent.plan
    prompts = [plan.prompt if prompt is None else prompt, *(text for _, text in plan.prompt_at)]
    return sequenced(
        prompts,
        parent.request.model_copy(update={"model": plan.model, "seed": seed, "audio": _track(parent, changes)}),
        frames_per=plan.num_frames // len(prompts),
        drift=DRIFT if plan.drift is None else plan.drift,
        feedback=plan.feedback or 0.0,
        owner=owner,
        model_dir=Path(parent.model_dir) if parent.model_dir else None,
        precision=parent.precision,
    )


def _shots(parent: Job, changes: dict[str, object], *, prompt: str | None, seed: int | None, owner: str) -> Job:
    """Create the job of the same shots; with another seed, those of all shots move by the same distance."""
    if prompt is not None:
        raise RequestError("prompt", prompt, f"{parent.id} has a prompt for each shot", "send the shots anew")
    request = parent.request.model_copy(update={"shots": changes["shots"], "audio": _track(parent, changes)})
    first = secrets.randbits(DRAWN_SEED_BITS) if seed is None else seed
    moved = [
        shot.model_copy(
            update={
                "request": shot.request.model_copy(
                    update={"seed": (first + (shot.request.seed or 0) - parent.plan.seed) % SEED_LIMIT}
                )
            }
        )
        for shot in request.shots or ()
    ]
    request = request.model_copy(update={"shots": tuple(moved), "seed": first})
    return shot_again(request, owner=owner, precision=parent.precision, networks=parent.networks)


def _track(parent: Job, changes: dict[str, object]) -> object:
    """Return the path of the job's own copy of its sound, or what the parent has in place of a file."""
    return changes.get("audio", parent.request.audio)


def _film(service: Service, sent: IO[bytes] | None, parent: Job | None, place: Path, stem: str) -> Path:
    """Copy the input film of a job into the job's own directory and return its path."""
    if sent is not None:
        return uploads.keep("video", sent, place, stem, "film")
    assert parent is not None
    film = film_path(service, parent, video_id(parent.id))
    service.artifacts.fetch(film)
    return uploads.again(film, place, stem)


def failure(job: Job) -> Response:
    """Return the response for a job that failed or was stopped; its header tells clients not to retry."""
    code = job.error_code or job.state
    message = job.error or f"the job was {job.state}"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, 400, {"x-should-retry": "false"})
