"""The tools that create jobs. Each returns at once; the films are made by workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, BinaryIO, Final, cast

from starlette.datastructures import UploadFile

from flickbook import catalogue
from flickbook.agents.arguments import (
    DraftFilms,
    EditFilm,
    ExtendFilm,
    FinishDrafts,
    Guided,
    MakeFilm,
    MakeShots,
    Once,
    RemakeFilm,
)
from flickbook.agents.results import films_of
from flickbook.agents.tool import Answer, Call
from flickbook.errors import JobConflict, ModelNotPulled, RequestError
from flickbook.server.api.drafts import drafts_of, finishing
from flickbook.server.api.jobs import job_of
from flickbook.server.api.requests import DraftsRequest, Film, FinishRequest, JobRequest, validated
from flickbook.server.api.shots import FILES, shots_of
from flickbook.server.compatible.fields import EditVideo, frames_of
from flickbook.server.submission import revisions
from flickbook.server.submission.idempotency import Idempotency
from flickbook.server.submission.submit import NewPlace, several, submitted, together
from flickbook.store.base import Job

#: Fields of these tools that the native API does not have, or has as files.
_OWN: Final = frozenset({*Guided.model_fields, "idempotency_key"})


async def make_film(call: Call, fields: MakeFilm) -> Answer:
    """Make a film, or an image, from a prompt. Returns the job at once; wait_for_films waits for the film, look shows
    it. Drafts are cheaper when you do not know yet which film you want."""
    request = validated(JobRequest, _sent(call, fields), "film")
    make = _with_files(call, fields.inputs(), partial(job_of, job_request=request))
    return await _one(call, fields, "make_film", make)


async def make_shots(call: Call, fields: MakeShots) -> Answer:
    """Make one film of several shots, each with its own prompt and length. Finished shots are kept while it is made."""
    for name in fields.images:
        if name not in FILES or name == "audio":
            raise RequestError("images", name, "is no input of a shot", "name it shot-1-image or shot-2-last_image")
    files = fields.images | ({} if fields.track is None else {"audio": fields.track})
    return await _one(call, fields, "make_shots", _with_files(call, files, partial(shots_of, body=fields)))


async def draft_films(call: Call, fields: DraftFilms) -> Answer:
    """Make drafts: the same film with different seeds, stopped after part of its steps. Look at the drafts, choose, and
    complete the good ones with finish_drafts, which continues where they stopped."""
    body = validated(DraftsRequest, _sent(call, fields) | {"seeds": fields.seeds}, "draft")
    extra = body.extra("admin" in call.caller.scopes) | {"until": body.until}

    def made(place: NewPlace) -> list[Job]:
        with _opened(call, fields.inputs()) as files:
            return drafts_of(body, call.service, call.caller.owner, extra, files, place)

    return await _queued(call, several(call.service, made, await _once(call, fields, "draft_films")))


async def finish_drafts(call: Call, fields: FinishDrafts) -> Answer:
    """Complete drafts to full films. Each continues from its draft; the draft stays."""
    make = partial(finishing, call.service, FinishRequest(ids=fields.ids), call.caller)
    return await _queued(call, together(call.service, make, await _once(call, fields, "finish_drafts")))


async def remake_film(call: Call, fields: RemakeFilm) -> Answer:
    """Make a film again with another prompt, another seed or other polish options. What you do not name stays the
    same."""
    parent = await call.job(fields.id)
    if fields.new_seed and fields.seed is not None:
        raise RequestError("seed", fields.seed, "new_seed draws another one", "leave one of them out")
    seed = None if fields.new_seed else revisions.seed_of(parent) if fields.seed is None else fields.seed
    polish = Film(prompt="", polish=fields.polish).polish_options()
    changes: dict[str, Any] = {"prompt": fields.prompt, "seed": seed, "polish_options": polish}
    make = partial(revisions.again, call.service, parent=parent, owner=call.caller.owner, **changes)
    return await _one(call, fields, "remake_film", make)


async def edit_film(call: Call, fields: EditFilm) -> Answer:
    """Edit a finished film: the new one keeps its motion and follows another prompt. The model must take a video, as
    list_models says."""
    return await _revised(call, fields, "edit_film", revisions.edit)


async def extend_film(call: Call, fields: ExtendFilm) -> Answer:
    """Extend a finished film: it continues from its last frame, and both parts are joined. The model must take an
    image, as list_models says."""
    return await _revised(call, fields, "extend_film", revisions.extend)


async def _revised(call: Call, fields: EditFilm | ExtendFilm, action: str, revise: revisions.Revise) -> Answer:
    """Create the job of a film that is made from another one."""
    if (fields.id is None) == (fields.video is None):
        raise RequestError("id", fields.id or "", "must name one film", "send id, or video")
    parent = None if fields.id is None else await call.job(fields.id)
    if parent is not None and parent.state != "completed":
        raise JobConflict(parent.id, parent.state, "changed", "wait until it is completed")
    sent = fields.model_dump(exclude={"id", "video", "idempotency_key"}, exclude_none=True)
    video = validated(EditVideo, sent, "film")
    make = partial(revise, call.service, fields=video, parent=parent, owner=call.caller.owner)

    def made(id: str) -> Job:
        if fields.video is not None:
            with call.access.opened("video", fields.video) as file:
                return make(id, sent=file)
        if parent is None or parent.home == "queue":
            return make(id, sent=None)
        with open(call.access.film(parent), "rb") as file:  # a command wrote it outside the artifact store
            return make(id, sent=file)

    return await _one(call, fields, action, made)


def _sent(call: Call, fields: MakeFilm | DraftFilms) -> dict[str, Any]:
    """Return the fields of the native API that were sent, with `seconds` as a number of frames."""
    sent = {name: getattr(fields, name) for name in fields.model_fields_set - _OWN}
    if fields.seconds is not None and fields.num_frames is not None:
        raise RequestError("seconds", fields.seconds, "cannot be combined with num_frames", "leave one of them out")
    if fields.seconds is not None:
        model = catalogue.find(fields.model or call.service.settings.model)
        sent["num_frames"] = frames_of(fields.seconds, None, fields.fps, model)
    return sent


@contextmanager
def _opened(call: Call, inputs: Mapping[str, str]) -> Iterator[dict[str, UploadFile]]:
    """Yield the input files of a call, which are open until the context ends. Raises RequestError."""
    with ExitStack() as stack:
        files = {name: stack.enter_context(call.access.opened(name, text)) for name, text in inputs.items()}
        yield {name: UploadFile(cast(BinaryIO, file)) for name, file in files.items()}


def _with_files(call: Call, inputs: Mapping[str, str], make: Callable[..., Job]) -> Callable[[str], Job]:
    """Return a function that creates a job with input files, which are open while it does."""

    def made(id: str) -> Job:
        with _opened(call, inputs) as files:
            return make(call.service, call.caller, files=files, id=id)

    return made


async def _one(call: Call, fields: Once, action: str, make: Callable[[str], Job]) -> Answer:
    """Queue the job that `make` creates for an id."""
    return await _queued(call, submitted(call.service, make, await _once(call, fields, action)))


async def _once(call: Call, fields: Once, action: str) -> Idempotency | None:
    """Return the idempotency of a call with a key, of a caller that has not used up its quota."""
    await call.access.afford()
    if fields.idempotency_key is None:
        return None
    body = fields.model_dump(mode="json", exclude_unset=True)
    return Idempotency.of(fields.idempotency_key, call.caller.owner, action, body)


async def _queued(call: Call, work: Awaitable[Job | list[Job]]) -> Answer:
    """Return new jobs, and have them worked on."""
    try:
        jobs = await work
    except ModelNotPulled as error:
        # No tool downloads a model; with pull = "auto" the service does, and this error does not occur.
        remedy = f"ask for `flickbook models pull {error.model}`, or choose a model of list_models that is here"
        raise ModelNotPulled(error.model, error.terms, remedy) from None
    await call.parts.began()
    return Answer(await films_of(call, jobs if isinstance(jobs, list) else [jobs]))
