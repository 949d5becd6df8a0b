"""Parser of the segments of a JPEG file (ITU-T T.81, B.1), run before decoding."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from flickbook.errors import MediaError
from flickbook.media.untrusted.sniff import DAMAGED, within
from flickbook.media.untrusted.tiff import orientation
from flickbook.media.write import FilePath

_END, _SCAN, _EXIF = 0xD9, 0xDA, 0xE1
_FRAMES: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_BARE: Final = (0x01, *range(0xD0, 0xD9))  # markers without content
# Colour profiles, previews, further images and EXIF itself are dropped; JFIF and Adobe are kept because they define the
# channels.
_LEFT_OUT: Final = (*range(0xE1, 0xEE), 0xEF, 0xFE)
_MAX_SEGMENTS: Final = 10_000
_MAX_FILL: Final = 64  # 0xFF fill bytes before a marker
_MAX_SCANS: Final = 100  # each may take 20 bytes and cost as much as the whole image


class Picture(NamedTuple):
    """A JPEG image of `height` x `width` pixels, its orientation (1 to 8), and a file with what the decoder needs."""

    height: int
    width: int
    channels: int
    turned: int
    data: bytes


def judged(path: FilePath, data: bytes) -> Picture:
    """Parse the segments of the file `data`. Raises MediaError if it is truncated or built to decode slowly."""
    at, turned, kept = 2, 1, [data[:2]]
    size: tuple[int, int, int] | None = None
    for _ in range(_MAX_SEGMENTS):
        start = at
        if data[at : at + 1] != b"\xff":
            break
        at += _MAX_FILL - len(data[at : at + _MAX_FILL].ljust(_MAX_FILL).lstrip(b"\xff"))
        kind = data[at] if at < len(data) else _END
        at += 1
        if kind in _BARE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if kind in (_END, 0xFF) or length < 2 or at + length > len(data):
            break
        if kind in _FRAMES:
            if size is not None or length < 8:
                break
            size = struct.unpack_from(">HHB", data, at + 3)
        if kind == _EXIF and data[at + 2 : at + 8] == b"Exif\0\0":
            turned = orientation(data[at + 2 : at + length])
        if kind == _SCAN and size is not None:
            return Picture(*size, turned, b"".join(kept) + _scans(path, data, start))
        at += length
        if kind not in _LEFT_OUT:
            kept.append(data[start:at])
    raise MediaError(path, *DAMAGED)


def _scans(path: FilePath, data: bytes, start: int) -> bytes:
    """Return the scans up to the end marker, without the data that phones append to it."""
    end = data.find(bytes((0xFF, _END)), start)
    if end < 0:
        raise MediaError(path, *DAMAGED)
    within(path, "scans", data.count(bytes((0xFF, _SCAN)), start, end), _MAX_SCANS)
    return data[start : end + 2]
