"""Metadata of an image or video: format, size and comment. No pixel is decoded."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader, BytesIO
from itertools import islice
from typing import Any, Final

from flickbook.errors import MediaError
from flickbook.media.untrusted.boxes import riff_chunks
from flickbook.media.untrusted.decode import judged_film
from flickbook.media.untrusted.picture import picture
from flickbook.media.untrusted.sniff import (
    DAMAGED,
    JPEG,
    MOVING_PNG,
    PNG,
    Format,
    Limits,
    check_size,
    opened,
    png_chunks,
    within,
)
from flickbook.media.untrusted.tiff import directory
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath

_MAX_EXIF_BYTES: Final = 2 * MAX_COMMENT_BYTES  # a preview may accompany the comment
_MAX_SEGMENTS: Final = 10_000  # of a JPEG before its image data
_MAX_CHUNKS: Final = 1 << 18  # of a PNG
_MAX_TEXT_BYTES: Final = 4 * MAX_COMMENT_BYTES  # of all comments of a PNG
_DESCRIPTION: Final = 0x010E  # ImageDescription (Exif 2.32, 4.6.4)
_TEXT: Final = 2
_KEYWORD: Final = b"comment"
_MAX_KEYWORD: Final = 79  # bytes


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
    """Task: width and height (pixels) of an image, or of the first of several, from its header."""
    with opened(path, None, "picture") as (file, form, judge), picture(path, file, form, judge) as (image, _):
        yield [image.width, image.height]


def _film(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    film = judged_film(path, file, form, limits)
    frames, rate = film.counted()
    check_size(path, max(frames, film.frames), film.height, film.width, limits)
    facts: dict[str, Any] = {"codec": film.codec, "width": film.width, "height": film.height}
    facts |= {"frames": frames, "fps": float(rate), "seconds": float(frames / rate)}
    tags: dict[Any, Any] = film.tags
    if form == MOVING_PNG:
        tags = _png_comment(path, file)
    elif not form.demuxer:
        tags = _described(_webp_exif(path, file))
    return facts | {"comment": _comment(path, tags)}


def _picture(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> dict[str, Any]:
    with picture(path, file, form, limits) as (image, _):
        facts: dict[str, Any] = {"codec": form.name, "width": image.width, "height": image.height}
        facts |= {"frames": 1, "fps": None, "seconds": None}
        if form in (PNG, MOVING_PNG):
            tags: dict[Any, Any] = _png_comment(path, file)
        elif form.name == "webp":
            tags = _described(_webp_exif(path, file))
        elif form.name == "gif":
            tags = dict(image.info)
        else:
            # Pillow does not receive the Exif of a JPEG; it finds that of an AVIF without decoding.
            tags = _described(_jpeg_exif(file) if form == JPEG else image.info.get("exif", b""))
        return facts | {"comment": _comment(path, tags)}


def _png_comment(path: FilePath, file: BufferedReader) -> dict[str, str]:
    """Return the last text of a PNG with the keyword "comment", before or after its pixels; empty if there is none.

    Raises MediaError if it is damaged or larger than 1 MiB.
    """
    found: dict[str, str] = {}
    read = 0
    for kind, content, length in islice(png_chunks(file), _MAX_CHUNKS):
        if kind == b"IEND":
            break
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        file.seek(content)
        keyword, _, _ = file.read(min(length, _MAX_KEYWORD + 1)).partition(b"\0")
        if keyword.lower() == _KEYWORD:
            read += length
            within(path, "bytes of comment", read, _MAX_TEXT_BYTES)
            file.seek(content + len(keyword) + 1)
            found = {"comment": _text(path, kind, file.read(max(0, length - len(keyword) - 1)))}
    return found


def _text(path: FilePath, kind: bytes, data: bytes) -> str:
    """Return the text of one chunk after its keyword (W3C, PNG third edition, 11.3.3)."""
    packed, encoding = kind == b"zTXt", "latin-1"
    if packed:
        method, data = data[:1], data[1:]
    elif kind == b"iTXt":
        packed, method, encoding = data[:1] != b"\0", data[1:2], "utf-8"
        _, _, data = data[2:].partition(b"\0")  # the language
        _, _, data = data.partition(b"\0")  # the translated keyword
    if packed:
        if method != b"\0":
            raise MediaError(path, *DAMAGED)
        try:
            data = zlib.decompressobj().decompress(data, MAX_COMMENT_BYTES + 1)
        except zlib.error:
            raise MediaError(path, *DAMAGED) from None
    within(path, "bytes of comment", len(data), MAX_COMMENT_BYTES)
    return data.decode(encoding, "replace")


def _jpeg_exif(file: BufferedReader) -> bytes:
    """Return the Exif block of a JPEG whose segments have been checked; b"" if there is none."""
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
    """Return the Exif block of a WebP; b"" if there is none."""
    for _, content, length in riff_chunks(path, file, 0, file.seek(0, 2)):
        for kind, inner, inner_length in riff_chunks(path, file, content + 4, content + length):
            if kind == b"EXIF":
                within(path, "bytes of Exif", inner_length, _MAX_EXIF_BYTES)
                file.seek(inner)
                return file.read(inner_length)
        break
    return b""


def _described(exif: bytes) -> dict[str, str]:
    """Return the ImageDescription of an Exif block as the tag "comment"; empty if it is absent or unreadable."""
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
    """Return the tag `comment`, case-insensitively."""
    found = next((str(value) for name, value in tags.items() if str(name).lower() == "comment"), None)
    if found is not None:
        within(path, "bytes of comment", len(found.encode("utf-8", "replace")), MAX_COMMENT_BYTES)
    return found
