"""Films of several shots over HTTP: a shot list in, one film out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.datastructures import UploadFile

from flickbook import settings
from flickbook.engine.rows import PATHS, at
from flickbook.engine.shots import shot_list
from flickbook.engine.shots.shot_list import SHOTS
from flickbook.errors import RequestError
from flickbook.jobs.create import shot
from flickbook.server.access.dependencies import Creator
from flickbook.server.api.jobs import shown
from flickbook.server.api.loras import files_of
from flickbook.server.api.requests import Container, Effort, LoraNamed, Name, Prompt, Soundtrack, received, validated
from flickbook.server.api.responses import ROOT, JobResponse
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission import inputs, uploads
from flickbook.server.submission.forms import body_of, request_schema
from flickbook.server.submission.idempotency import IdempotencyKey
from flickbook.server.submission.submit import submitted
from flickbook.spec import Quality
from flickbook.store.base import Job

#: The input files of a shot and their kinds; the part of a form is shot-1-image for the first shot's image.
_KINDS: Final[dict[str, uploads.Kind]] = {
    "image": "picture",
    "video": "film",
    "last_image": "picture",
    "audio": "sound",
}
#: The parts of a form: the sound under the whole film, and the files of its shots.
FILES: Final = ("audio", *(f"shot-{number}-{name}" for number in range(1, SHOTS + 1) for name in _KINDS))
#: Options of a shot that name files, which a request cannot open.
_PATHS: Final = (*PATHS, "upscaler", "condition", "reference_image", "lora")
_EXAMPLE: Final[dict[str, Any]] = {
    "fade": 2,
    "subjects": {"hero": "a red circle"},
    "defaults": {"seed": 7},
    "shots": [
        {"prompt": "{hero} moving left on a blue background", "seconds": 2},
        {"prompt": "{hero} spinning on a green background", "seconds": 2, "camera": "zoom-in"},
    ],
}
router = APIRouter(tags=["shots"])


class ShotsRequest(Effort, Soundtrack):
    """A film of several shots.

    A shot has the options of a job, and `seconds` instead of `num_frames`, `begins` (previous: from the last frame of
    the shot before it) and `camera`. `defaults` are options of all shots, `subjects` the words for {name} in prompts,
    and `fade` the number of frames of each cross-fade.
    """

    shots: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=SHOTS)]
    defaults: dict[str, Any] = {}
    subjects: Annotated[dict[str, Prompt], Field(max_length=SHOTS)] = {}
    fade: Annotated[int, Field(ge=0, le=1000)] = 0
    container: Container | None = None
    codec: Name | None = None
    quality: Quality | None = None
    pixel_format: Name | None = None


def _body() -> dict[str, Any]:
    """Return the OpenAPI schema of the request body."""
    plain = ShotsRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    plain.pop("$defs", None)
    return request_schema(plain, _EXAMPLE, plain, FILES[: 1 + len(_KINDS)], ["request"])


@router.post(
    f"{ROOT}/shots",
    operation_id="create_shots",
    status_code=201,
    responses=refusals(404, 409, 413, 415, 507),
    openapi_extra=_body(),
)
async def create(request: Request, response: Response, caller: Creator, idempotency: IdempotencyKey) -> JobResponse:
    """Create a film of several shots. The job is of the kind shots.

    Send JSON, or a form with the same JSON in the part `request` and the input files of shots in parts such as
    `shot-1-image`, `shot-2-last_image`, `shot-3-video` and `shot-4-audio`. The part `audio` is the sound under the
    whole film. Finished shots are kept while the film is made, so a resumed
    job does not make them again.
    """
    service = service_of(request)
    async with body_of(request) as body:
        shots, files = await received(body, ShotsRequest, "film", FILES)
        job = await submitted(service, partial(shots_of, service, caller, shots, files), idempotency)
    response.headers["location"] = f"{ROOT}/jobs/{job.id}"
    return await shown(request, job)


def shots_of(service: Service, caller: Caller, body: ShotsRequest, files: Mapping[str, UploadFile], id: str) -> Job:
    """Create the job of a request and store its input files. Blocks."""
    shots = []
    for number, options in enumerate(body.shots, 1):
        with at(f"shot {number}"):
            shots.append(_options(service, caller, options))
    with at("defaults"):
        defaults = {"model": settings.load().model} | _options(service, caller, body.defaults)
    sound = body.sound(inputs.stored_track(service, body, files, id))
    for part, upload in files.items():
        if part == "audio":
            continue
        _, place, name = part.split("-", 2)
        if int(place) > len(shots):
            raise RequestError(part, "", f"there are {len(shots)} shots", "leave it out, or add the shot")
        kept = uploads.keep(name, upload.file, service.artifacts.made(id), f"given-{part}", _KINDS[name])
        if name in shots[int(place) - 1]:
            raise RequestError(part, shots[int(place) - 1][name], "is also sent as a file", "send one of them")
        shots[int(place) - 1][name] = str(kept)
    document = {"shots": shots, "defaults": defaults, "subjects": body.subjects, "fade": body.fade} | sound
    encoding = {name: getattr(body, name) for name in ("container", "codec", "quality", "pixel_format")}
    extra = body.extra("admin" in caller.scopes)
    return shot(shot_list.of(document), {}, encoding, owner=caller.owner, **extra)


def _options(service: Service, caller: Caller, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a shot by their names in a shot list. Blocks. Raises RequestError for one that names a
    file."""
    found = dict(options)
    polish = found.pop("polish", None) or {}
    if not isinstance(polish, dict):
        raise RequestError("polish", type(polish).__name__, "must be an object", 'send for example {"steady": 1}')
    found |= polish
    for name in _PATHS:
        if name in found and (name, found[name]) != ("audio", "none"):
            limit = "names a file, which a request cannot open"
            raise RequestError(name, str(found[name]), limit, "send the file as a part of a form")
    if (named := found.pop("loras", None)) is not None:
        if not isinstance(named, list):
            raise RequestError("loras", type(named).__name__, "must be a list", 'send [{"name": "ink"}]')
        loras = [validated(LoraNamed, each, "LoRA") for each in named]
        files = files_of([(each.name, each.weight) for each in loras], service.loras_of(caller.owner))
        found["lora"] = [f"{path}:{weight}" for path, weight in files or ()]
    return found
