"""Metadata of an image or video file, and the recipe in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any, Final

from flickbook.errors import MediaError, RequestError, shown
from flickbook.media.clip import sidecar_path
from flickbook.media.read_sound import film_sound_facts
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.sniff import Limits
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath
from flickbook.spec import SCHEMA_VERSION, Recipe, Sidecar

_MAX_SIDECAR_BYTES: Final = 2 * MAX_COMMENT_BYTES
_OURS: Final = "name a file that Flickbook made"


def read_comment(path: FilePath, limits: Limits | None = None) -> str | None:
    """Return the comment (at most 1 MiB) of a film or image, or None. Raises MediaError as `inspect` does."""
    found = _metadata(path, limits, digest=False)["comment"]
    return None if found is None else str(found)


def _metadata(path: FilePath, limits: Limits | None, *, digest: bool) -> dict[str, Any]:
    """Return the metadata of the file, read by a child process."""
    limit_values = None if limits is None else asdict(limits)
    found = probe.ask("metadata", path, limits=limit_values, digest=digest).value
    assert isinstance(found, dict)
    return found


def read_recipe(path: FilePath, limits: Limits | None = None) -> Recipe:
    """Return the recipe in a film or image. Raises MediaError if it is absent, damaged or of a newer schema."""
    return recipe_of(path, read_comment(path, limits))


def recipe_of(path: FilePath, comment: str | None) -> Recipe:
    """Parse the recipe in the comment of the file at `path`. Raises MediaError as `read_recipe` does."""
    if comment is None:
        raise MediaError(path, "carries no recipe", _OURS)
    try:
        document = json.loads(comment)
    except (ValueError, RecursionError):
        raise MediaError(path, "its comment is not a recipe", _OURS) from None
    _check_version(path, document)
    try:
        return Recipe.from_json(comment)
    except RequestError as error:
        raise MediaError(path, f"its recipe is damaged ({error})", _OURS) from None


def read_sidecar(path: FilePath) -> Sidecar:
    """Return the sidecar of a film or image, empty if there is none. Raises MediaError if it is damaged or newer."""
    beside = sidecar_path(path)
    if not os.path.isfile(beside):
        return Sidecar(recipe=None, run=None)
    try:
        with open(beside, "rb") as file:
            text = file.read(_MAX_SIDECAR_BYTES + 1)
        document = json.loads(text) if len(text) <= _MAX_SIDECAR_BYTES else None
        if isinstance(document, dict):
            _check_version(beside, document.get("recipe"))
            return Sidecar.from_json(text)
    except (OSError, ValueError, RecursionError, RequestError):
        pass
    raise MediaError(beside, "not a sidecar that Flickbook wrote", _OURS)


def _audio(path: FilePath, problems: list[str]) -> dict[str, Any] | None:
    """Return the facts of the film's sound; None if there is none, or if it cannot be read, which is a problem."""
    try:
        return film_sound_facts(path)
    except MediaError as error:
        problems.append(str(error))
        return None


def _check_version(path: FilePath, recipe: Any) -> None:
    version = recipe.get("schema_version") if isinstance(recipe, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"its recipe has schema {shown(version)}, and this Flickbook reads up to {SCHEMA_VERSION}"
        raise MediaError(path, reason, "install a newer Flickbook")


def inspect(path: FilePath, limits: Limits | None = None) -> dict[str, Any]:
    """Return the metadata of a file as a JSON-compatible dict.

    Videos are judged by their headers; only the sound is decoded, for its loudness.

    Keys: path, container, codec, width and height (pixels, before the orientation is applied), frames, fps and seconds
    (None for an image), audio (see `read_sound.sound_facts`, None without sound), bytes, sha256, comment (only if it is
    not a recipe), recipe and run (None if absent), problems (sentences about a recipe or sidecar that could not be
    read). `limits` defaults to those of videos or of images. Raises MediaError if the file itself cannot be read.
    """
    facts: dict[str, Any] = {"path": os.fspath(path)} | _metadata(path, limits, digest=True)
    problems: list[str] = []
    facts["audio"] = _audio(path, problems)
    facts |= {"recipe": None, "run": None, "problems": problems}
    try:
        facts["run"] = read_sidecar(path).model_dump(mode="json")["run"]
    except MediaError as error:
        problems.append(str(error))
    if facts["comment"] is not None:
        try:
            facts |= {"recipe": recipe_of(path, facts["comment"]).model_dump(mode="json"), "comment": None}
        except MediaError as error:
            problems.append(str(error))
    return facts
