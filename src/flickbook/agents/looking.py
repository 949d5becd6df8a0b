"""The tools that read, wait, choose and cancel."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException

from flickbook import catalogue
from flickbook.agents.arguments import Choose, ListModels, Look, SearchFilms, ShowJobs, WaitForFilms
from flickbook.agents.results import Film, films_of, models_of
from flickbook.agents.tool import Answer, Call
from flickbook.errors import JobConflict, JobNotFound, MediaError
from flickbook.jobs.artifacts import PREVIEW
from flickbook.jobs.queue import FAVOURITE
from flickbook.media.untrusted import probe
from flickbook.store.base import DONE, Job, Query, State

#: Seconds between two looks at up to eight jobs that a call waits for.
_LOOK: Final = 0.25
#: States in which nothing more happens by itself.
STILL: Final[tuple[State, ...]] = (*DONE, "paused")


async def list_models(call: Call, fields: ListModels) -> Answer:
    """List the models with what they are good at, their limits and defaults. A film can be made at once by a model that
    is here."""
    return Answer(await models_of(catalogue.list_models(), call.service.settings.model, here=fields.here))


async def look(call: Call, fields: Look) -> Answer:
    """Look at films and drafts: a contact sheet with one row of frames for each. Of a running job it shows the newest
    preview."""
    jobs = [await call.job(id) for id in dict.fromkeys(fields.ids)]
    sheets = [sheet for job in jobs if (sheet := await _sheet(call, job)) is not None]
    pictures = (await asyncio.to_thread(_stacked, sheets),) if sheets else ()
    return Answer(await films_of(call, jobs), pictures)


async def choose(call: Call, fields: Choose) -> Answer:
    """Mark films and drafts as favourites, or remove the mark. Favourites are never deleted for their age."""
    jobs = [await call.job(id) for id in dict.fromkeys(fields.ids)]
    kept = [await call.service.queue.favour(job.id, fields.favourite, call.caller.sees) for job in jobs]
    return Answer(await films_of(call, kept))


async def search_films(call: Call, fields: SearchFilms) -> Answer:
    """Search the gallery of films, newest first: by a text in the prompt, by kind, by state, or only favourites."""
    if fields.after is not None:
        await call.job(fields.after)
    query = Query(
        owner=call.caller.sees,
        states=tuple(fields.states),
        kinds=tuple(fields.kinds),
        noted=FAVOURITE if fields.favourite else None,
        text=fields.text,
        after=fields.after,
        limit=fields.limit + 1,
    )
    found = await call.service.store.find(query)
    return Answer(await films_of(call, found[: fields.limit], has_more=len(found) > fields.limit))


async def show_jobs(call: Call, fields: ShowJobs) -> Answer:
    """Show jobs: state, progress, place in the queue, remaining time, and where a finished film is."""
    return Answer(await films_of(call, [await call.job(id) for id in dict.fromkeys(fields.ids)]))


async def wait_for_films(call: Call, fields: WaitForFilms) -> Answer:
    """Wait until jobs are done, with progress. After `seconds` it returns them as they are: call it again to wait
    longer."""
    ids = list(dict.fromkeys(fields.ids))
    until = time.monotonic() + fields.seconds
    told = ""
    while True:
        jobs = [await call.job(id) for id in ids]
        if all(job.state in STILL for job in jobs) or time.monotonic() >= until or call.parts.closing.is_set():
            return Answer(await films_of(call, jobs))
        if not await call.access.still_admits():
            raise HTTPException(401, "the API key is no longer valid; use another")
        films = (await films_of(call, jobs, links=False)).films  # a link is signed anew each time
        if (text := status(films)) != told:
            told = text
            await call.report(sum(film.progress for film in films) / len(films), text)
        await asyncio.sleep(min(_LOOK * math.ceil(len(ids) / 8), max(0.0, until - time.monotonic())))


async def cancel_jobs(call: Call, fields: ShowJobs) -> Answer:
    """Cancel jobs. A queued one ends at once, a running one at its next step; finished ones stay."""
    jobs = [await call.job(id) for id in dict.fromkeys(fields.ids)]
    return Answer(await films_of(call, [await cancelled(call, job) for job in jobs]))


async def cancelled(call: Call, job: Job) -> Job:
    """Return a job that was asked to end; one that has ended stays as it is."""
    try:
        return await call.service.queue.cancel(job.id, call.caller.sees)
    except JobConflict:
        return await call.job(job.id)


def status(films: Sequence[Film]) -> str:
    """Return one line about films in progress."""
    if len(films) > 1:
        done = sum(film.state in DONE for film in films)
        return f"{done} of {len(films)} done, {100 * sum(film.progress for film in films) / len(films):.0f} %"
    (film,) = films
    if film.state != "running":
        return film.state if film.place is None else f"{film.state}, place {film.place}"
    left = "" if film.eta_seconds is None else f", {film.eta_seconds:.0f} s left"
    return f"{film.phase or film.state} {100 * film.progress:.0f} %{left}"


async def _sheet(call: Call, job: Job) -> bytes | None:
    """Return a row of frames of a job as PNG; None if it has no picture yet. Raises JobNotFound if its film is gone."""
    label = f"{job.id} · seed {job.plan.seed} · {job.plan.prompt}"
    finished = job.result is not None and job.kind != "tune"
    path = await asyncio.to_thread(_pictured, call, job, finished)
    try:
        answer = await asyncio.to_thread(probe.ask, "sheet", path, probe.IMAGE, label=label)
    except (FileNotFoundError, MediaError):
        if finished:
            raise JobNotFound(job.id) from None
        return None
    return bytes(answer.data)


def _pictured(call: Call, job: Job, finished: bool) -> Path:
    """Return the file that shows a job: its film, or the preview of a running job. Blocks."""
    artifacts = call.service.artifacts
    if finished:
        path = call.access.film(job)
        artifacts.fetch(path)
        return path
    artifacts.watch(job.id)  # previews take more of a job's time while they are watched
    return artifacts.shown(job.id, PREVIEW)


def _stacked(sheets: Sequence[bytes]) -> bytes:
    """Return contact sheets as one PNG, one below the other. Blocks."""
    from PIL import Image

    images = [Image.open(BytesIO(sheet)).convert("RGB") for sheet in sheets]
    whole = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "#ffffff")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    file = BytesIO()
    whole.save(file, "PNG")
    return file.getvalue()
