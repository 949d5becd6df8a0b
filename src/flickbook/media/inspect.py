"""What a picture or film says about itself, and the recipe it carries."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from io import BufferedReader
from typing import Any, Final

from PIL.PngImagePlugin import PngImageFile

from flickbook.errors import FlickbookError, MediaError, shown
from flickbook.media.clip import sidecar_path
from flickbook.media.picture import picture
from flickbook.media.read import judged_film
from flickbook.media.sniff import Format, Limits, check_size, opened, within
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath
from flickbook.spec import SCHEMA_VERSION, Recipe, Run

_MAX_SIDECAR_BYTES: Final = 2 * MAX_COMMENT_BYTES


def read_comment(path: FilePath, limits: Limits | None = None) -> str | None:
    """The comment (at most 1 MiB) of a film or picture, or None if it has none. Raises MediaError as `inspect` does."""
    with opened(path, limits, "either") as (file, form, judge):
        found = _facts(path, file, form, judge)["comment"]
        return None if found is None else str(found)


def read_recipe(path: FilePath, limits: Limits | None = None) -> Recipe:
    """The recipe a film or picture carries. Raises MediaError if it carries none, a damaged or a newer one."""
    comment = read_comment(path, limits)
    if comment is None:
        raise MediaError(path, "carries no recipe", "name a file that Flickbook made")
    return _recipe(path, comment)


def _recipe(path: FilePath, comment: str) -> Recipe:
    remedy = "name a file that Flickbook made"
    try:
        document = json.loads(comment)
    except (ValueError, RecursionError):
        raise MediaError(path, "its comment is not a recipe", remedy) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"its recipe has schema {shown(version)}, and this Flickbook reads up to {SCHEMA_VERSION}"
        raise MediaError(path, reason, "install a newer Flickbook")
    try:
        return Recipe.from_json(comment)
    except FlickbookError as error:
        raise MediaError(path, f"its recipe is damaged ({error})", remedy) from None


def inspect(path: FilePath, limits: Limits | None = None) -> dict[str, Any]:
    """What a file says about itself, ready for JSON. A film is judged by its headers, not decoded.

    Keys: path, container, codec, width and height (pixels, before it is turned upright), frames, fps and seconds (None
    for a picture), bytes, sha256, comment (only if it is no recipe), recipe and run (None if there is none), problems
    (sentences about a recipe or sidecar that could not be read). Without `limits`, those of films or of pictures hold.
    Raises MediaError if the file itself cannot be read.
    """
    with opened(path, limits, "either") as (file, form, judge):
        facts: dict[str, Any] = {"path": os.fspath(path), "container": form.name}
        facts |= _facts(path, file, form, judge)
        file.seek(0)
        facts["bytes"] = os.fstat(file.fileno()).st_size
        facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    problems: list[str] = []
    facts |= {"recipe": None, "run": _sidecar_run(path, problems), "problems": problems}
    if facts["comment"] is not None:
        try:
            facts |= {"recipe": _recipe(path, facts["comment"]).model_dump(mode="json"), "comment": None}
        except MediaError as error:
            problems.append(str(error))
    return facts


def _facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    return (_film_facts if form.moves else _picture_facts)(path, file, form, limits)


def _film_facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    film = judged_film(path, file, form, limits)
    frames, rate = film.counted()
    check_size(path, max(frames, film.frames), film.height, film.width, limits)
    facts: dict[str, Any] = {"codec": film.codec, "width": film.width, "height": film.height}
    facts |= {"frames": frames, "fps": float(rate), "seconds": float(frames / rate)}
    return facts | {"comment": _comment(path, film.tags)}


def _picture_facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    with picture(path, file, form, limits) as (image, _):
        tags: dict[Any, Any] = {}
        if isinstance(image, PngImageFile):
            # Text behind the pixels is found by decoding them, which for many frames could take hours.
            tags = dict(image.info if image.is_animated else image.text)
        facts: dict[str, Any] = {"codec": form.name, "width": image.width, "height": image.height}
        return facts | {"frames": 1, "fps": None, "seconds": None, "comment": _comment(path, tags)}


def _comment(path: FilePath, tags: dict[Any, Any]) -> str | None:
    """The tag `comment`, whichever case its name is in."""
    found = next((str(value) for name, value in tags.items() if str(name).lower() == "comment"), None)
    if found is not None:
        within(path, "bytes of comment", len(found.encode("utf-8", "replace")), MAX_COMMENT_BYTES)
    return found


def _sidecar_run(path: FilePath, problems: list[str]) -> dict[str, Any] | None:
    """The run told by the sidecar beside `path`; None if there is none, or if it cannot be read, which is a problem."""
    sidecar = sidecar_path(path)
    if not os.path.isfile(sidecar):
        return None
    with suppress(OSError, ValueError, RecursionError, FlickbookError):
        with open(sidecar, "rb") as file:
            text = file.read(_MAX_SIDECAR_BYTES + 1)
        document = json.loads(text) if len(text) <= _MAX_SIDECAR_BYTES else None
        if isinstance(document, dict) and "run" in document:
            run = document["run"]
            return None if run is None else Run.from_json(json.dumps(run)).model_dump(mode="json")
    problems.append(f"{sidecar}: not a sidecar that Flickbook wrote")
    return None
