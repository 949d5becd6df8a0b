"""Batches over HTTP: one job for each row of a table, all or none. Files that a row names are never opened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.datastructures import UploadFile

from flickbook import formats
from flickbook.engine.rows import FILE_BYTES, PATHS, at, merged, parsed, turns_of
from flickbook.errors import RequestError
from flickbook.jobs.create import ordered
from flickbook.resolution import speed_of
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.requests import EXAMPLE, Effort, Film, PolishOption, validated
from flickbook.server.api.responses import ROOT, JobList, list_response
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import inputs
from flickbook.server.submission.forms import Body, body_of, request_of, request_schema
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import NewPlace, several
from flickbook.store.base import Job

#: The most rows of a batch.
ROWS: Final = 1000
#: Fields that name a file, here or in the command.
_PATHS: Final = (
    *(*PATHS, "upscaler", "condition", "conditions", "reference_image", "reference_images"),
    *("lora", "loras", "output", "model_dir"),
)
_FILES: Final = ("file", "audio")
_REF: Final = "#/components/schemas/{model}"
router = APIRouter(tags=["batches"])


class BatchContent(Effort):
    """Options of all films of a batch: `defaults` for fields of the rows, and options of the jobs."""

    defaults: dict[str, Any] = {}


class BatchRequest(BatchContent):
    """A batch: one film for each row."""

    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=ROWS)]


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    film = Film.model_json_schema(ref_template=_REF)
    film = {"type": "object", "properties": film["properties"], "additionalProperties": False}
    form_schema, json_schema = BatchContent.model_json_schema(), BatchRequest.model_json_schema()
    for schema in (form_schema, json_schema):
        schema["properties"]["defaults"] = film | {"default": {}}
    json_schema["properties"]["rows"]["items"] = film
    rows = [{"seed": 7}, {"prompt": "a green star on a black background"}]
    example = {"rows": rows, "defaults": {"prompt": EXAMPLE["prompt"], "num_inference_steps": 8}}
    return request_schema(json_schema, example, form_schema, _FILES, ("file",))


@router.post(
    f"{ROOT}/batches",
    operation_id="create_batch",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, caller: Creator, idempotency: IdempotencyKey) -> JobList:
    """Create a job for each row of a batch. All jobs are queued, or none; an error names its row.

    Send JSON, or a form with the rows in the part `file` (.csv, .jsonl or .toml, as `flickbook batch` reads them) and
    everything else as JSON in the part `request`. Rows cannot name files. The part `audio` is the sound under each
    film, except those of rows whose `audio` is none.
    """
    service = service_of(request)
    async with body_of(request) as body:
        options, rows, defaults, track = await _parse_body(body)
        make = partial(_jobs, service, options, rows, defaults, caller, track)
        return await list_response(service, await several(service, make, idempotency))


async def _parse_body(
    body: Body,
) -> tuple[BatchContent, Sequence[Mapping[str, Any]], Mapping[str, Any], UploadFile | None]:
    """Return the options of all films, the rows, the defaults in the rows' file, and the sound under each film."""
    if body.typed:
        batch = validated(BatchRequest, body.fields, "batch")
        return batch, batch.rows, {}, None
    fields, files = await request_of(body, _FILES)
    if "file" not in files:
        raise RequestError("file", "", "missing from the form", "send the rows as a file in this part")
    options, file = validated(BatchContent, fields or {}, "batch"), files["file"]
    data = await file.read(FILE_BYTES + 1)
    found, defaults = await asyncio.to_thread(parsed, file.filename or "", data, ROWS)
    return options, [row.values for row in found], defaults, files.get("audio")


def _jobs(
    service: Service,
    options: BatchContent,
    rows: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    caller: Caller,
    track: UploadFile | None,
    place: NewPlace,
) -> list[Job]:
    """Create a job for each row, and store a copy of the sound with each that has it. Blocks. Raises RequestError that
    names the row."""
    extra = options.extra("admin" in caller.scopes)
    with at("defaults"):
        common = merged(_plain(options.defaults), _plain(defaults))
    jobs, kept = list[Job](), dict[str, str]()
    for number, row in enumerate(rows):
        with at(f"row {number + 1}"):
            film = _film(merged(common, _plain(row)))
            named, own = dict[str, Any](), dict[str, str]()
            if track is not None and film.audio is None:
                id = place()
                own = inputs.again(service, kept, id) if kept else inputs.stored(service, film, {"audio": track}, id)
                kept, named = kept or own, {"id": id}
            request = film.request(service.loras_of(caller.owner), **film.sound(own.get("audio")))
            job = ordered(request, film.polish_options(), owner=caller.owner, **extra)
            jobs.append(job.model_copy(update=named))
    return jobs


def _plain(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row or the defaults without null values, with the polish options next to the other fields.

    Raises RequestError for a field that names a file.
    """
    found = {name: value for name, value in layer.items() if value is not None}
    polish = found.pop("polish", {})
    if not isinstance(polish, dict):
        raise RequestError("polish", type(polish).__name__, "must be an object", 'send for example {"loop": "cut"}')
    level, played = speed_of(found.get("speed"))
    if level is not None and played is None and polish.get("speed") is not None:
        polish = polish | {"speed": f"{level},{polish['speed']}"}  # a speed level and a playback speed under one name
        del found["speed"]
    for name, value in polish.items():
        if name in found:
            raise RequestError(name, value, "is set both in polish and next to it", "leave one of them out")
    found |= {name: value for name, value in polish.items() if value is not None}
    if found.get("upscaler") == "lanczos":  # the default upscaler, which is no file
        del found["upscaler"]
    for name in _PATHS:
        if name in found and (name, found[name]) != ("audio", "none"):
            limit = "names a file, and rows cannot open files"
            raise RequestError(name, found[name], limit, f"leave it out; POST {ROOT}/jobs accepts images and films")
    if not isinstance(found.get("size", ""), str):
        raise RequestError("size", found["size"], "must be text", "write for example 128x128")
    found.pop("name", None)  # the file name that the command would write
    return found


def _film(values: Mapping[str, Any]) -> Film:
    """Return the film of a row, whose values are text as in a table, or have the types of a job's fields."""
    own = dict(values)
    if isinstance(own.get("quality"), str):
        own["quality"] = formats.quality_of(own["quality"])
    if isinstance(own.get("steady"), bool):
        own["steady"] = float(own["steady"])
    turns = own.get("prompt_at")
    if isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        first, later = turns_of(own.get("prompt"), turns)
        own |= {} if first is None else {"prompt": first}
        own["prompt_at"] = None if later is None else list(later)
    polish = {name: own.pop(name) for name in PolishOption.model_fields if name in own}
    level, played = speed_of(polish.pop("speed", None))
    own |= {} if level is None else {"speed": level}
    polish |= {} if played is None else {"speed": played}
    return validated(Film, own | ({"polish": polish} if polish else {}), "row")
