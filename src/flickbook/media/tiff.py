"""The directory of tags that TIFF and EXIF share: what it says is judged before a decoder reads it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final

from flickbook.errors import MediaError
from flickbook.media.sniff import DAMAGED, Limits, within
from flickbook.media.write import FilePath

_WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION = 256, 257, 259, 274
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 277, 322, 323
_OFFSETS: Final = (273, 279, 324, 325)  # of strips and tiles, and their lengths
_COMPRESSIONS: Final = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, Deflate, PackBits, Deflate's old number
_UNIT_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SHORT, _LONG = 3, 4
_MAX_TAG_BYTES: Final = 64 << 20  # of all tags: they may overlap, and each is read into memory
_MAX_PARTS: Final = 1 << 18  # strips or tiles
_MAX_SAMPLES: Final = 5  # CMYK and one more


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF: for each tag its type, how many values it has, and its last four bytes."""

    order: str
    tags: dict[int, tuple[int, int, bytes]]

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag that stands in the directory itself."""
        kind, _, data = self.tags.get(tag, (0, 0, b""))
        if kind == _SHORT:
            return int(struct.unpack(f"{self.order}H", data[:2])[0])
        return int(struct.unpack(f"{self.order}I", data)[0]) if kind == _LONG else default


def directory(file: BinaryIO) -> Directory:
    """The first directory of the TIFF in `file`. Raises struct.error if it is cut short, ValueError if it is none."""
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
    return Directory(order, {tag: (kind, values, last) for tag, kind, values, last in entries})


def orientation(exif: bytes) -> int:
    """How EXIF says that a picture is turned, 1 to 8; 1, as it stands, if that cannot be read."""
    try:
        found = directory(BytesIO(exif.removeprefix(b"Exif\0\0"))).number(_ORIENTATION, 1)
    except (struct.error, ValueError):
        return 1
    return found if 1 <= found <= 8 else 1


def size_and_orientation(path: FilePath, file: BinaryIO, limits: Limits) -> tuple[int, int, int]:
    """Height, width (pixels) and orientation of a TIFF. Raises MediaError if decoding it could take any memory."""
    try:
        found = directory(file)
    except (struct.error, ValueError):
        raise MediaError(path, *DAMAGED) from None
    size = file.seek(0, 2)
    sizes = [_UNIT_BYTES.get(kind, 1) * values for kind, values, _ in found.tags.values()]
    within(path, "bytes of tags", sum(each for each in sizes if each > 4), min(size, _MAX_TAG_BYTES))
    within(path, "strips or tiles", max(found.tags.get(tag, (0, 0))[1] for tag in _OFFSETS), _MAX_PARTS)
    within(path, "samples a pixel", found.number(_SAMPLES), _MAX_SAMPLES)
    within(path, "pixels a tile", found.number(_TILE_WIDTH) * found.number(_TILE_HEIGHT), limits.pixels)
    compression = found.number(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise MediaError(path, f"its TIFF compression {compression} is not read", "save it with LZW, or as PNG")
    turned = found.number(_ORIENTATION, 1)
    return found.number(_HEIGHT), found.number(_WIDTH), turned if 1 <= turned <= 8 else 1
