"""Films as resources: the file, its contact sheet and its recipe."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Final

from mcp import types

from flickbook.agents.arguments import Look
from flickbook.agents.looking import look
from flickbook.agents.results import Film, films_of
from flickbook.agents.tool import Call
from flickbook.errors import JobConflict, JobNotFound, RequestError
from flickbook.server.api.responses import media_type
from flickbook.store.base import Query

_ROOT: Final = "flickbook://films/"
_URI: Final = re.compile(re.escape(_ROOT) + r"([a-z0-9_]{1,64})(?:/(sheet|recipe))?")
#: The most bytes of a film that is sent in a message, and the films of one page.
MAX_BYTES: Final = 16 << 20
_PAGE: Final = 50

TEMPLATES: Final = (
    types.ResourceTemplate(
        name="film", uri_template=_ROOT + "{id}", description="The file of a finished film, up to 16 MiB."
    ),
    types.ResourceTemplate(
        name="sheet", uri_template=_ROOT + "{id}/sheet", mime_type="image/png", description="Frames of a film."
    ),
    types.ResourceTemplate(
        name="recipe",
        uri_template=_ROOT + "{id}/recipe",
        mime_type="application/json",
        description="The recipe of a film, from which `flickbook reproduce` makes it again.",
    ),
)


def link(film: Film) -> types.ResourceLink:
    """Return a link to a finished film."""
    assert film.url is not None
    return types.ResourceLink(
        type="resource_link",
        name=film.id,
        title=film.prompt,
        uri=film.url,
        mime_type=film.media_type,
        size=film.bytes,
    )


async def listed(call: Call, cursor: str | None) -> types.ListResourcesResult:
    """Return a page of finished films, newest first. Raises JobNotFound for an invalid cursor."""
    if cursor is not None:
        await call.job(cursor)
    query = Query(owner=call.caller.sees, states=("completed",), after=cursor, limit=_PAGE + 1)
    jobs = await call.service.store.find(query)
    films = (await films_of(call, jobs[:_PAGE])).films
    found = [
        types.Resource(name=film.id, title=film.prompt, uri=_ROOT + film.id, mime_type=film.media_type, size=film.bytes)
        for film in films
        if film.url is not None
    ]
    return types.ListResourcesResult(resources=found, next_cursor=films[-1].id if len(jobs) > _PAGE else None)


async def read(call: Call, uri: str) -> types.ReadResourceResult:
    """Return a resource. Raises JobNotFound, JobConflict for a film that is not completed, RequestError."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise RequestError("uri", uri, "is no resource", f"write {_ROOT}ID, with /sheet or /recipe behind it")
    job = await call.job(match[1])
    if job.kind == "tune":  # its result is a LoRA
        raise JobNotFound(job.id)
    if job.state != "completed" or job.result is None:
        raise JobConflict(job.id, job.state, "read", "wait until it is completed")
    if match[2] == "recipe":
        recipe = job.result.sidecar.recipe
        if recipe is None:
            raise JobNotFound(job.id)
        text = json.dumps(recipe.model_dump(mode="json"))
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[contents])
    if match[2] == "sheet":
        answer = await look(call, Look(ids=[job.id]))
        return _blob(uri, "image/png", answer.pictures[0])
    path = call.access.film(job)
    return _blob(uri, media_type(path.name), await asyncio.to_thread(_content, call, job.id, path))


def _content(call: Call, id: str, path: Path) -> bytes:
    """Return the bytes of a film. Blocks. Raises JobNotFound if its file is gone, RequestError if it is too large."""
    artifacts = call.service.artifacts
    artifacts.fetch(path)
    try:
        # A file of a command lies outside of the artifact store.
        with artifacts.opened(path).file if path.is_relative_to(artifacts.root) else path.open("rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except OSError:
        raise JobNotFound(id) from None
    if len(data) > MAX_BYTES:
        limit = f"the film has more than {MAX_BYTES} bytes"
        raise RequestError("uri", f"{_ROOT}{id}", limit, "use the url that show_jobs returns")
    return data


def _blob(uri: str, kind: str, data: bytes) -> types.ReadResourceResult:
    blob = base64.b64encode(data).decode("ascii")
    return types.ReadResourceResult(contents=[types.BlobResourceContents(uri=uri, mime_type=kind, blob=blob)])
