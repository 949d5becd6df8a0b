"""The input files of films: the parts of a form that hold them, their checks, and where they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.datastructures import UploadFile

from flickbook import catalogue, settings
from flickbook.conditioning import unread
from flickbook.errors import RequestError
from flickbook.server.api.requests import GUIDES, Film, Soundtrack
from flickbook.server.service import Service
from flickbook.server.submission import uploads

#: The parts of a form that hold the input files of a film, and their kinds.
KINDS: Final[dict[str, uploads.Kind]] = {
    "image": "picture",
    "video": "film",
    "last_image": "picture",
    "control_video": "film",
    "face_video": "film",
    "mask": "either",
    "audio": "sound",
    **{f"{name}-{number}": "picture" for name in ("condition", "reference") for number in range(GUIDES)},
}


def stored(service: Service, film: Film, files: Mapping[str, UploadFile], id: str) -> dict[str, str]:
    """Store the input files of a film in the directory of job `id`, and return the path of each by its part. Blocks.

    Raises RequestError for a file that its model does not read, before it is stored, and the errors of `uploads.keep`.
    """
    kept = dict[str, str]()
    for field, upload in files.items():
        if field == "audio":
            check_track(film)
        else:
            _check(film, field)
        kept[field] = str(uploads.keep(field, upload.file, service.artifacts.made(id), f"given-{field}", KINDS[field]))
    return kept


def again(service: Service, kept: Mapping[str, str], id: str) -> dict[str, str]:
    """Store the same files in the directory of another job, and return their paths. Blocks."""
    return {
        field: str(uploads.again(Path(path), service.artifacts.made(id), f"given-{field}", field))
        for field, path in kept.items()
    }


def stored_track(service: Service, fields: Soundtrack, files: Mapping[str, UploadFile], id: str) -> str | None:
    """Store the sound of a film in the directory of job `id`; None if none was sent. Blocks. Raises as `stored`."""
    if "audio" not in files:
        return None
    check_track(fields)
    return str(uploads.keep("audio", files["audio"].file, service.artifacts.made(id), "given-audio", KINDS["audio"]))


def check_track(fields: Soundtrack) -> None:
    """Raise RequestError if a sound was sent as a file and in the field."""
    if fields.audio is not None:
        raise RequestError("audio", fields.audio, "is also sent as a file", "send one of them")


def _check(film: Film, field: str) -> None:
    """Check that the model supports this input."""
    model = catalogue.find(film.model or settings.load().model)
    if field not in ("image", "video"):
        name = {"condition": "conditions", "reference": "reference_images"}.get(field.partition("-")[0], field)
        if name not in model.accepts:
            raise unread(name, field, model)
    elif field not in model.inputs:
        limit = f"{model.name} starts from {' or '.join(model.inputs)}"
        raise RequestError(field, "", limit, "leave it out, or choose another model")
