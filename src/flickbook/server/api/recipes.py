"""Recipes over HTTP: the metadata of an uploaded film."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel

from flickbook.errors import MediaError, RequestError
from flickbook.server.access.dependencies import Changer
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusals
from flickbook.server.submission.forms import body_of
from flickbook.server.submission.uploads import READERS
from flickbook.spec import Recipe

_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
    "additionalProperties": False,
}
router = APIRouter(tags=["recipes"])


class Inspected(BaseModel):
    """The metadata of a film or an image. `recipe` is null if the file has none; `comment` is then its own comment."""

    container: str
    codec: str
    width: int
    height: int
    frames: int
    fps: float | None
    seconds: float | None
    bytes: int
    sha256: str
    comment: str | None
    recipe: Recipe | None
    problems: list[str]


@router.post(
    f"{ROOT}/recipes/inspect",
    operation_id="inspect_recipe",
    responses=refusals(413, 415),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _BODY}}}},
)
async def inspect(request: Request, caller: Changer) -> Inspected:
    """Inspect a file. Returns its format, its size, and the recipe in its metadata; nothing is decoded or stored.

    A separate process with limits of memory and time reads the file. If too many files wait, the response is 429, and
    retry-after is when to retry.
    """
    async with body_of(request) as body:
        file = body.files.get("file")
        if body.typed or file is None or body.fields or len(body.files) > 1:
            raise RequestError("file", "", "must be the only part of the form", "send the film as the part file")
        return await asyncio.get_running_loop().run_in_executor(READERS, _inspected, file.file)


def _inspected(source: Any) -> Inspected:
    from flickbook.media.inspect import inspect as facts_of  # NumPy takes a moment to load

    # In an empty folder: a sidecar next to the file would be read too.
    with tempfile.TemporaryDirectory(prefix="flickbook-") as place:
        path = Path(place) / "film"
        with open(path, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        try:
            facts = facts_of(path)
        except MediaError as error:
            raise RequestError("file", "film", error.reason, error.remedy) from None
    problems = [each.replace(f"{path}: ", "") for each in facts["problems"]]
    recipe = None if facts["recipe"] is None else Recipe.from_json(json.dumps(facts["recipe"]))
    named = {name: facts.get(name) for name in Inspected.model_fields}
    return Inspected.model_validate({**named, "recipe": recipe, "problems": problems})
