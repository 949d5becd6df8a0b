"""Parser of the boxes and items of an AVIF image (ISO/IEC 23008-12; AV1 Image File Format), run before decoding.

The size box and the AV1 stream may contradict each other, so both are parsed. The decoder receives only images and
grids of images: Exif, XMP and all other items are hidden from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final, NamedTuple

from flickbook.errors import MediaError
from flickbook.media.untrusted import av1
from flickbook.media.untrusted.sniff import DAMAGED, Limits, within
from flickbook.media.write import FilePath

#: The decoder holds an image three times in memory, so the limit is lower than for other formats.
MAX_PIXELS: Final = 4096 * 4096
_MAX_ITEMS: Final = 256
_MAX_BOXES: Final = 4096
_MAX_META_BYTES: Final = 4 << 20
_MAX_LIST_BYTES: Final = 128 << 10  # item and reference lists, which decoders search linearly
_MAX_LAYERS: Final = 8
#: Container boxes, and the number of bytes before their first child.
_HOLDERS: Final = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"dinf": 0, b"dref": 8, b"iinf": 0}
_BULK: Final = (b"idat", b"colr")
_SHOWN: Final = (b"av01", b"grid")
_HIDDEN: Final = b"skip"


class Picture(NamedTuple):
    """An AVIF image: its Exif, b"" if none, and a file with only what the decoder needs."""

    exif: bytes
    file: BytesIO


@dataclass
class _Found:
    """The parsed boxes: item types and their offsets, extents of each item, sizes, and totals."""

    kinds: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    inside: tuple[int, int] = (0, 0)
    lists: int = 0
    external: bool = False


def judged(path: FilePath, data: bytes, limits: Limits) -> Picture:
    """Parse the file `data`. Raises MediaError if decoding may take unbounded memory, or for a reference to a file."""
    try:
        found = _found(path, data)
        if found.external:
            raise MediaError(path, "its pixels are in another file", "export it again as one file")
        within(path, "bytes of items", sum(each[2] for places in found.extents.values() for each in places), len(data))
        content = {each: _content(data, found, each) for each in found.kinds if each in found.extents}
        pixels = min(limits.pixels, MAX_PIXELS)
        within(path, "pixels a frame", max((height * width for height, width in found.sizes), default=0), pixels)
        _check_streams(path, found, content, pixels)
    except (ValueError, struct.error, IndexError):
        raise MediaError(path, *DAMAGED) from None
    shown = bytearray(data)
    exif = b""
    for item, (kind, at) in found.kinds.items():
        if kind == b"Exif":
            whole = content.get(item, b"")
            exif = whole[4 + int.from_bytes(whole[:4], "big") :]
        if kind not in _SHOWN:
            shown[at : at + 4] = _HIDDEN
    return Picture(exif, BytesIO(bytes(shown)))


def _check_streams(path: FilePath, found: _Found, content: dict[int, bytes], pixels: int) -> None:
    """Raises MediaError if a stream or a grid exceeds the limits, ValueError if it is malformed."""
    total = 0
    for item, data in content.items():
        kind = found.kinds[item][0]
        if kind == b"grid":
            size = struct.unpack_from(">II" if data[1] & 1 else ">HH", data, 4)
            within(path, "pixels a frame", size[0] * size[1], pixels)
        elif kind == b"av01":
            frames, most = av1.judged(data)
            within(path, "layers", frames, _MAX_LAYERS)
            # A frame that may override its size can have up to four times the pixels of the largest image.
            within(path, "pixels a frame", most, 2 * pixels)
            total += most
    within(path, "pixels of all tiles", total, 4 * pixels)  # colour and alpha, and what the edges of a grid crop


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box, and the start and end of its content. Raises ValueError if one is truncated."""
    while start < end:
        length, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            length, content = struct.unpack_from(">Q", data, content)[0], start + 16
        elif length == 0:
            length = end - start
        if length < content - start or start + length > end:
            raise ValueError("a box is cut short")
        start += length
        yield kind, content, start


def _found(path: FilePath, data: bytes) -> _Found:
    """Parse all boxes. Raises MediaError if there is more than an image needs, ValueError if the file is damaged."""
    found, boxes, metas = _Found(), 0, 0
    pending = [(b"", 0, len(data))]
    while pending:
        holder, begin, stop = pending.pop()
        for kind, start, end in _boxes(data, begin, stop):
            boxes += 1
            within(path, "boxes", boxes, _MAX_BOXES)
            if kind == b"moov":
                raise MediaError(path, "holds a film beside its picture", "save the picture as PNG")
            if kind == b"meta":
                metas += 1
                within(path, "bytes of index", end - start, _MAX_META_BYTES)
            if holder and kind not in _BULK and kind not in _HOLDERS:
                found.lists += end - start
                within(path, "bytes of lists", found.lists, _MAX_LIST_BYTES)
            _note(data, found, holder, kind, start, end)
            if kind in _HOLDERS and bool(holder) == (kind != b"meta"):
                skip = (6 if data[start] == 0 else 8) if kind == b"iinf" else _HOLDERS[kind]
                pending.append((kind, start + skip, end))
    if metas != 1 or not found.kinds:
        raise ValueError("no picture")
    within(path, "items", len(found.kinds), _MAX_ITEMS)
    return found


def _note(data: bytes, found: _Found, holder: bytes, kind: bytes, start: int, end: int) -> None:
    """Record the relevant values of one box."""
    if holder == b"dref":
        found.external = found.external or not data[start + 3] & 1
    elif kind == b"ispe" and holder == b"ipco":
        width, height = struct.unpack_from(">II", data, start + 4)
        found.sizes.append((height, width))
    elif kind == b"infe" and holder == b"iinf":
        version = data[start]
        if version not in (2, 3):
            raise ValueError("an item of another version")
        width = 2 if version == 2 else 4
        item, at = int.from_bytes(data[start + 4 : start + 4 + width], "big"), start + 6 + width
        if at + 4 > end or item in found.kinds:
            raise ValueError("an item is cut short, or there twice")
        found.kinds[item] = (data[at : at + 4], at)
    elif kind == b"idat":
        found.inside = (start, end)
    elif kind == b"iloc":
        _note_places(data[start:end], found)


def _note_places(data: bytes, found: _Found) -> None:
    """Parse the item locations (ISO/IEC 14496-12, 8.11.3): the extents of each item and their construction method."""
    at = 4

    def number(width: int) -> int:
        nonlocal at
        if at + width > len(data):
            raise ValueError("the places are cut short")
        at += width
        return int.from_bytes(data[at - width : at], "big")

    version, wide = data[0], 2 if data[0] < 2 else 4
    widths = number(2)
    offset_width, length_width, base_width, index_width = (widths >> each & 15 for each in (12, 8, 4, 0))
    for _ in range(number(wide)):
        item, way = number(wide), number(2) & 15 if version else 0
        found.external = found.external or number(2) != 0
        base, places = number(base_width), []
        for _ in range(number(2)):
            number(index_width if version else 0)
            places.append((way, base + number(offset_width), number(length_width)))
        if item in found.extents:
            raise ValueError("an item is there twice")
        found.extents[item] = places


def _content(data: bytes, found: _Found, item: int) -> bytes:
    """Return the bytes of an item. Raises ValueError if they are incomplete."""
    parts = []
    for way, start, length in found.extents[item]:
        begin, end = (0, len(data)) if way == 0 else found.inside
        if way > 1 or begin + start + length > end:
            raise ValueError("an item is cut short")
        parts.append(memoryview(data)[begin + start : begin + start + length])
    return b"".join(parts)
