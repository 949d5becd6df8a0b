"""The tools that create jobs. Each returns at once; the films are made by workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from flickbook import catalogue
from flickbook.agents.arguments import DraftFilms, EditFilm, ExtendFilm, FinishDrafts, MakeFilm, RemakeFilm
from flickbook.agents.results import films_of
from flickbook.agents.tool import Answer, Call
from flickbook.errors import JobConflict, ModelNotPulled, RequestError
from flickbook.server.api.drafts import drafts_of, finishing
from flickbook.server.api.jobs import job_of
from flickbook.server.api.requests import DraftsRequest, Film, FinishRequest, JobRequest, validated
from flickbook.server.compatible.fields import EditVideo, frames_of
from flickbook.server.submission import revisions
from flickbook.server.submission.submit import submitted, together
from flickbook.store.base import Job


async def make_film(call: Call, fields: MakeFilm) -> Answer:
    """Make a film, or an image, from a prompt. Returns the job at once; wait_for_films waits for the film, look shows
    it. Drafts are cheaper when you do not know yet which film you want."""
    request = validated(JobRequest, _sent(call, fields), "film")
    make = partial(job_of, call.service, call.caller, request, {})
    return await _one(call, make)


async def draft_films(call: Call, fields: DraftFilms) -> Answer:
    """Make drafts: the same film with different seeds, stopped after part of its steps. Look at the drafts, choose, and
    complete the good ones with finish_drafts, which continues where they stopped."""
    body = validated(DraftsRequest, _sent(call, fields) | {"seeds": fields.seeds}, "draft")
    extra = body.extra("admin" in call.caller.scopes) | {"until": body.until}
    make = partial(asyncio.to_thread, drafts_of, body, call.service, call.caller.owner, extra)
    return await _several(call, make)


async def finish_drafts(call: Call, fields: FinishDrafts) -> Answer:
    """Complete drafts to full films. Each continues from its draft; the draft stays."""
    return await _several(call, partial(finishing, call.service, FinishRequest(ids=fields.ids), call.caller))


async def remake_film(call: Call, fields: RemakeFilm) -> Answer:
    """Make a film again with another prompt, another seed or other polish options. What you do not name stays the
    same."""
    parent = await call.job(fields.id)
    if fields.new_seed and fields.seed is not None:
        raise RequestError("seed", fields.seed, "new_seed draws another one", "leave one of them out")
    seed = None if fields.new_seed else revisions.seed_of(parent) if fields.seed is None else fields.seed
    polish = Film(prompt="", polish=fields.polish).polish_options()
    make = partial(revisions.again, call.service, parent=parent, prompt=fields.prompt, seed=seed)
    return await _one(call, partial(make, owner=call.caller.owner, polish_options=polish))


async def edit_film(call: Call, fields: EditFilm) -> Answer:
    """Edit a finished film: the new one keeps its motion and follows another prompt. The model must take a video, as
    list_models says."""
    return await _revised(call, fields, revisions.edit)


async def extend_film(call: Call, fields: ExtendFilm) -> Answer:
    """Extend a finished film: it continues from its last frame, and both parts are joined. The model must take an
    image, as list_models says."""
    return await _revised(call, fields, revisions.extend)


async def _revised(call: Call, fields: EditFilm | ExtendFilm, revise: revisions.Revise) -> Answer:
    """Create the job of a film that is made from another one."""
    parent = await call.job(fields.id)
    if parent.state != "completed":
        raise JobConflict(parent.id, parent.state, "changed", "wait until it is completed")
    video = validated(EditVideo, fields.model_dump(exclude={"id"}, exclude_none=True), "film")
    make = partial(revise, call.service, fields=video, sent=None, parent=parent, owner=call.caller.owner)
    return await _one(call, make)


def _sent(call: Call, fields: MakeFilm | DraftFilms) -> dict[str, Any]:
    """Return the fields that were sent, with `seconds` as a number of frames."""
    sent = {name: getattr(fields, name) for name in fields.model_fields_set - {"seconds"}}
    if fields.seconds is not None and fields.num_frames is None:
        model = catalogue.find(fields.model or call.service.settings.model)
        sent["num_frames"] = frames_of(fields.seconds, None, fields.fps, model)
    return sent


async def _one(call: Call, make: Callable[[str], Job]) -> Answer:
    """Queue the job that `make` creates for an id."""
    await call.access.afford()
    try:
        job = await submitted(call.service, make)
    except ModelNotPulled as error:
        raise _absent(error) from None
    await call.parts.began()
    return Answer(await films_of(call, [job]))


async def _several(call: Call, make: Callable[[], Any]) -> Answer:
    """Queue the jobs that `make` creates, all or none."""
    await call.access.afford()
    try:
        jobs = await together(call.service, make, None)
    except ModelNotPulled as error:
        raise _absent(error) from None
    await call.parts.began()
    return Answer(await films_of(call, jobs))


def _absent(error: ModelNotPulled) -> ModelNotPulled:
    """Return the error with a remedy for an agent, which downloads no models."""
    remedy = f"ask for `flickbook models pull {error.model}`, or choose a model of list_models that is here"
    return ModelNotPulled(error.model, error.terms, remedy)
