"""Parser of the chunks of a PNG (W3C, PNG third edition, 5.3 and 11.3.6), run before decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BufferedReader
from math import lcm
from typing import Final, NamedTuple

from flickbook.errors import MediaError
from flickbook.media.untrusted.sniff import DAMAGED, png_chunks
from flickbook.media.write import FilePath

_MAX_CHUNKS: Final = 1 << 18
_CONTROL_BYTES: Final = 26
_AT_ONCE: Final = (1, 10)  # seconds, for a frame with duration 0
_MOST_EXACT: Final = 10**9  # parts per second; a finer common denominator could grow to a million digits
_ROUNDED: Final = 10**6


class Times(NamedTuple):
    """The durations of all frames as multiples of a unit, and how many units are one second."""

    durations: list[int]
    unit: int


def chunks(path: FilePath, file: BufferedReader) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, content offset and length of each chunk. Raises MediaError if the file is truncated."""
    size = file.seek(0, 2)
    for number, (kind, content, length) in enumerate(png_chunks(file)):
        if number == _MAX_CHUNKS:
            raise MediaError(path, f"more chunks than the limit of {_MAX_CHUNKS}", "make it shorter or smaller")
        if content + length + 4 > size:
            break
        yield kind, content, length
        if kind == b"IEND":
            return
    raise MediaError(path, *DAMAGED)


def times(path: FilePath, file: BufferedReader) -> Times:
    """Return the durations of an animated PNG. Raises MediaError if it is truncated or its number of frames is wrong.

    They are exact unless the file mixes so many denominators that there is no small common one.
    """
    expected, delays = 0, []
    for kind, content, length in chunks(path, file):
        if kind in (b"acTL", b"fcTL"):
            file.seek(content)
            data = file.read(length if length <= _CONTROL_BYTES else 0)
            if len(data) != (8 if kind == b"acTL" else _CONTROL_BYTES):
                raise MediaError(path, *DAMAGED)
            if kind == b"acTL":
                expected = int.from_bytes(data[:4], "big")
                continue
            seconds, parts = struct.unpack_from(">HH", data, 20)
            delays.append((seconds, parts or 100) if seconds else _AT_ONCE)
    if expected != len(delays):
        raise MediaError(path, f"says {expected} frames, and holds {len(delays)}", DAMAGED[1])
    unit = 1
    for parts in {parts for _, parts in delays}:
        unit = lcm(unit, parts)
        if unit > _MOST_EXACT:
            break
    unit = unit if unit <= _MOST_EXACT else _ROUNDED
    return Times([max(1, round(seconds * unit / parts)) for seconds, parts in delays], unit)
