"""Parser of the tag directory of TIFF and EXIF, run before decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final, NamedTuple

from flickbook.errors import MediaError
from flickbook.media.untrusted.sniff import DAMAGED, Limits, within
from flickbook.media.write import FilePath

_WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION = 256, 257, 259, 274
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 277, 322, 323
_OFFSETS: Final = (273, 279, 324, 325)  # offsets and byte counts of strips and tiles
_SINGLE: Final = (_WIDTH, _HEIGHT, _COMPRESSION, 262, 266, _SAMPLES, 278, 284, 317, _TILE_WIDTH, _TILE_HEIGHT)
# Also needed: bits, palette, extra samples, sample format, JPEG tables, and YCbCr parameters.
_NEEDED: Final = (*_SINGLE, *_OFFSETS, 258, 320, 338, 339, 347, 529, 530, 531, 532)
_COMPRESSIONS: Final = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, Deflate, PackBits, Deflate's old number
_UNIT_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SHORT, _LONG = 3, 4
_MAX_TAG_BYTES: Final = 4 << 20  # total of all tags: they may overlap, and each is read into memory
_MAX_PARTS: Final = 1 << 18  # strips or tiles
_MAX_SAMPLES: Final = 5  # CMYK and one more


class Entry(NamedTuple):
    """One tag: its type, number of values, and four bytes that hold the values or their offset."""

    kind: int
    values: int
    data: bytes


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF: its byte order in struct notation, the offset of its entries, and the entries."""

    order: str
    start: int
    tags: tuple[tuple[int, Entry], ...]

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag that is stored in the directory itself."""
        kind, _, data = dict(self.tags).get(tag, Entry(0, 0, b""))
        if kind == _SHORT:
            return int(struct.unpack(f"{self.order}H", data[:2])[0])
        return int(struct.unpack(f"{self.order}I", data)[0]) if kind == _LONG else default

    def turned(self) -> int:
        """Return the orientation, 1 to 8; 1 (upright) if it is absent."""
        found = self.number(_ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1


def directory(file: BinaryIO) -> Directory:
    """Parse the first directory of the TIFF in `file`. Raises struct.error if it is truncated, else ValueError."""
    file.seek(0)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("no TIFF")
    magic, at = struct.unpack(f"{order}HI", head[2:])
    if magic != 42:
        raise ValueError("no TIFF")
    file.seek(at)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    data = file.read(12 * count)
    if len(data) < 12 * count:
        raise ValueError("the directory is cut short")
    entries = [struct.unpack_from(f"{order}HHI4s", data, 12 * each) for each in range(count)]
    return Directory(order, at + 2, tuple((tag, Entry(*rest)) for tag, *rest in entries))


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 (upright) if it is unreadable."""
    try:
        return directory(BytesIO(exif.removeprefix(b"Exif\0\0"))).turned()
    except (struct.error, ValueError):
        return 1


class Picture(NamedTuple):
    """A TIFF image of `height` x `width` pixels, its orientation (1 to 8), and a file with what the decoder needs."""

    height: int
    width: int
    turned: int
    file: BytesIO


def judged(path: FilePath, data: bytes, limits: Limits) -> Picture:
    """Parse the first directory of the file `data`. Raises MediaError if decoding could take unbounded memory."""
    file = BytesIO(data)
    try:
        found = directory(file)
    except (struct.error, ValueError):
        raise MediaError(path, *DAMAGED) from None
    needed = {tag: entry for tag, entry in found.tags if tag in _NEEDED}
    lengths = [(_UNIT_BYTES.get(kind, 1) * values, last) for kind, values, last in needed.values()]
    away = [(struct.unpack(f"{found.order}I", last)[0], length) for length, last in lengths if length > 4]
    within(path, "bytes of tags", sum(length for _, length in away), _MAX_TAG_BYTES)
    within(path, "strips or tiles", max((0, *(needed[tag].values for tag in _OFFSETS if tag in needed))), _MAX_PARTS)
    whole = found.start + 12 * len(found.tags) + 4 <= len(data) and all(at + size <= len(data) for at, size in away)
    # Of a duplicate tag, Pillow takes the last one, libtiff the first.
    once = len(needed) == sum(tag in _NEEDED for tag, _ in found.tags)
    if not (whole and once and all(needed[tag].values == 1 for tag in _SINGLE if tag in needed)):
        raise MediaError(path, *DAMAGED)
    within(path, "samples a pixel", found.number(_SAMPLES), _MAX_SAMPLES)
    within(path, "pixels a tile", found.number(_TILE_WIDTH) * found.number(_TILE_HEIGHT), limits.pixels)
    compression = found.number(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise MediaError(path, f"its TIFF compression {compression} is not read", "save it with LZW, or as PNG")
    file.seek(found.start)
    for tag, (kind, values, last) in found.tags:
        # Readers skip tags of an unknown type, so no profile, preview or nested directory is read.
        file.write(struct.pack(f"{found.order}HHI4s", tag, kind if tag in _NEEDED else 0, values, last))
    return Picture(found.number(_HEIGHT), found.number(_WIDTH), found.turned(), file)
