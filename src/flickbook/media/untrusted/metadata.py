"""Metadata of an image or video: format, size and comment. No pixel is decoded."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, Final

from PIL.PngImagePlugin import PngStream

from flickbook.media.untrusted.decode import judged_film
from flickbook.media.untrusted.picture import comment, picture
from flickbook.media.untrusted.sniff import GIF, MOVING_PNG, PNG, Format, Limits, check_size, opened, within
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath

_MAX_CHUNKS: Final = 1 << 18  # of a PNG


def metadata(path: FilePath, limits: dict[str, int] | None, digest: bool) -> Iterator[dict[str, Any]]:
    """Task: container, codec, width, height, frames, fps, seconds and comment, as described in `inspect.inspect`.

    With `digest` also bytes and sha256.
    """
    with opened(path, None if limits is None else Limits(**limits), "either") as (file, form, judge):
        found = (_film if form.moves else _picture)(path, file, form, judge)
        if digest:
            file.seek(0)
            found["bytes"] = os.fstat(file.fileno()).st_size
            found["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        yield {"container": form.name} | found


def size(path: FilePath) -> Iterator[list[int]]:
    """Task: width and height (pixels) of an image, or of the first of several, which is decoded: it is complete."""
    with opened(path, None, "picture") as (file, form, judge), picture(path, file, form, judge) as image:
        found = [image.width, image.height]
        image.load()
        yield found


def _film(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    film = judged_film(path, file, form, limits)
    frames, rate = film.counted()
    check_size(path, max(frames, film.frames), film.height, film.width, limits)
    facts: dict[str, Any] = {"codec": film.codec, "width": film.width, "height": film.height}
    facts |= {"frames": frames, "fps": float(rate), "seconds": float(frames / rate)}
    return facts | {"comment": _comment(path, _png_texts(file) if form == MOVING_PNG else film.tags)}


def _picture(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    with picture(path, file, form, limits) as image:
        facts: dict[str, Any] = {"codec": form.name, "width": image.width, "height": image.height}
        facts |= {"frames": 1, "fps": None, "seconds": None}
        if form in (PNG, MOVING_PNG):
            tags: dict[Any, Any] = _png_texts(file)
        else:
            tags = dict(image.info) if form == GIF else comment(image.info.get("exif", b""))
        return facts | {"comment": _comment(path, tags)}


def _png_texts(file: BufferedReader) -> dict[str, str]:
    """Return the texts of a PNG before and after its pixels. Raises ValueError if they are over Pillow's limits."""
    file.seek(8)  # after the signature
    chunks = PngStream(file)
    for _ in range(_MAX_CHUNKS):
        try:
            kind, content, length = chunks.read()
        except (OSError, SyntaxError, struct.error):
            break  # it is cut short
        if kind == b"IEND":
            break
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            chunks.call(kind, content, length)
        file.seek(content + length + 4)  # a checksum follows
    return dict(chunks.im_text)


def _comment(path: FilePath, tags: dict[Any, Any]) -> str | None:
    """Return the tag `comment`, case-insensitively."""
    found = next((str(value) for name, value in tags.items() if str(name).lower() == "comment"), None)
    if found is not None:
        within(path, "bytes of comment", len(found.encode("utf-8", "replace")), MAX_COMMENT_BYTES)
    return found
