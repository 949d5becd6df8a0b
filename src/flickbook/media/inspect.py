"""What a picture or film says about itself, and the recipe it carries."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from contextlib import suppress
from io import BufferedReader, BytesIO
from typing import Any, Final

from PIL.PngImagePlugin import PngImageFile

from flickbook.errors import MediaError, RequestError, shown
from flickbook.media.boxes import riff_chunks
from flickbook.media.clip import sidecar_path
from flickbook.media.picture import picture
from flickbook.media.read import judged_film
from flickbook.media.sniff import JPEG, MOVING_PNG, PNG, Format, Limits, check_size, opened, within
from flickbook.media.tiff import directory
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath
from flickbook.spec import SCHEMA_VERSION, Recipe, Sidecar

_MAX_SIDECAR_BYTES: Final = 2 * MAX_COMMENT_BYTES
_MAX_EXIF_BYTES: Final = 2 * MAX_COMMENT_BYTES  # a preview may stand beside the comment
_MAX_SEGMENTS: Final = 10_000  # of a JPEG before its picture
_DESCRIPTION: Final = 0x010E  # ImageDescription (Exif 2.32, 4.6.4)
_TEXT: Final = 2
_OURS: Final = "name a file that Flickbook made"


def read_comment(path: FilePath, limits: Limits | None = None) -> str | None:
    """The comment (at most 1 MiB) of a film or picture, or None if it has none. Raises MediaError as `inspect` does."""
    with opened(path, limits, "either") as (file, form, judge):
        found = _facts(path, file, form, judge)["comment"]
        return None if found is None else str(found)


def read_recipe(path: FilePath, limits: Limits | None = None) -> Recipe:
    """The recipe a film or picture carries. Raises MediaError if it carries none, a damaged or a newer one."""
    return recipe_of(path, read_comment(path, limits))


def recipe_of(path: FilePath, comment: str | None) -> Recipe:
    """The recipe in the comment of the file at `path`. Raises MediaError as `read_recipe` does."""
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
    """What stands beside a film or picture; nothing if no file does. Raises MediaError for a damaged or a newer one."""
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


def _check_version(path: FilePath, recipe: Any) -> None:
    version = recipe.get("schema_version") if isinstance(recipe, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"its recipe has schema {shown(version)}, and this Flickbook reads up to {SCHEMA_VERSION}"
        raise MediaError(path, reason, "install a newer Flickbook")


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


def _facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    return (_film_facts if form.moves else _picture_facts)(path, file, form, limits)


def _film_facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    film = judged_film(path, file, form, limits)
    frames, rate = film.counted()
    check_size(path, max(frames, film.frames), film.height, film.width, limits)
    facts: dict[str, Any] = {"codec": film.codec, "width": film.width, "height": film.height}
    facts |= {"frames": frames, "fps": float(rate), "seconds": float(frames / rate)}
    tags: dict[Any, Any] = film.tags
    if form == MOVING_PNG:
        file.seek(0)
        with picture(path, file, PNG, limits) as (image, _):
            tags = dict(image.info)  # what stands before the pixels; to find the rest, all would have to be decoded
    elif not form.demuxer:
        tags = _described(_webp_exif(path, file))
    return facts | {"comment": _comment(path, tags)}


def _picture_facts(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    with picture(path, file, form, limits) as (image, _):
        facts: dict[str, Any] = {"codec": form.name, "width": image.width, "height": image.height}
        facts |= {"frames": 1, "fps": None, "seconds": None}
        if isinstance(image, PngImageFile):
            # Text behind the pixels is found by decoding them, which for many frames could take hours.
            tags: dict[Any, Any] = dict(image.info if image.is_animated else image.text)
        elif form.name == "webp":
            tags = _described(_webp_exif(path, file))
        else:
            # Pillow is not shown the Exif of a JPEG, and finds that of an AVIF without decoding it.
            tags = _described(_jpeg_exif(file) if form == JPEG else image.info.get("exif", b""))
        return facts | {"comment": _comment(path, tags)}


def _jpeg_exif(file: BufferedReader) -> bytes:
    """The Exif block of a JPEG whose segments have been judged; b"" if there is none."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or head[0] != 0xFF or head[1] == 0xDA:
            break
        length = int.from_bytes(head[2:4], "big")
        if head[1] == 0xE1 and head[4:] == b"Exif\0\0":
            return file.read(length - 8)
        at += 2 + length
    return b""


def _webp_exif(path: FilePath, file: BufferedReader) -> bytes:
    """The Exif block of a WebP; b"" if there is none."""
    for _, content, length in riff_chunks(path, file, 0, file.seek(0, 2)):
        for kind, inner, inner_length in riff_chunks(path, file, content + 4, content + length):
            if kind == b"EXIF":
                within(path, "bytes of Exif", inner_length, _MAX_EXIF_BYTES)
                file.seek(inner)
                return file.read(inner_length)
        break
    return b""


def _described(exif: bytes) -> dict[str, str]:
    """The ImageDescription in an Exif block as the tag "comment"; none if it has none, or cannot be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    with suppress(struct.error, ValueError):
        found = directory(BytesIO(exif))
        entry = next((each for tag, each in found.tags if tag == _DESCRIPTION and each.kind == _TEXT), None)
        if entry is not None:
            at = 0 if entry.values <= 4 else struct.unpack(f"{found.order}I", entry.data)[0]
            text = (entry.data if entry.values <= 4 else exif)[at : at + entry.values]
            return {"comment": text.partition(b"\0")[0].decode("utf-8", "replace")}
    return {}


def _comment(path: FilePath, tags: dict[Any, Any]) -> str | None:
    """The tag `comment`, whichever case its name is in."""
    found = next((str(value) for name, value in tags.items() if str(name).lower() == "comment"), None)
    if found is not None:
        within(path, "bytes of comment", len(found.encode("utf-8", "replace")), MAX_COMMENT_BYTES)
    return found
