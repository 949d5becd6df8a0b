"""Parser of the OBUs of an AV1 stream (AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_MAX_UNITS: Final = 1 << 16


class Stream(NamedTuple):
    """The number of frames in a stream, and the largest number of pixels that one frame can have."""

    frames: int
    pixels: int


def judged(data: bytes) -> Stream:
    """Parse the OBUs in `data`: an image, or one packet of a video. Raises ValueError if they are malformed.

    The pixels are 0 if no OBU states a size. If frames can state their own size, the result is the largest possible
    size.
    """
    frames = pixels = 0
    for kind, start, end in _units(data):
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind == _SEQUENCE:
            pixels = max(pixels, _pixels(_Bits(data[start : min(end, start + 1024)])))
    return Stream(frames, pixels)


def _units(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the type of each OBU, and the start and end of its payload."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        flags = data[at]
        at += 2 if flags & 4 else 1  # an optional extension byte (layers)
        length, width = (len(data) - at, 0) if not flags & 2 else _leb128(data, at)
        at += width
        if flags & 0x80 or length < 0 or at + length > len(data):
            raise ValueError("not a unit of AV1")
        yield flags >> 3 & 15, at, at + length
        at += length
    raise ValueError("too many units")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Read a LEB128 number; return it and its length in bytes."""
    value = 0
    for width, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * width
        if not byte & 0x80:
            return value, width + 1
    raise ValueError("not a number")


class _Bits:
    """A bit reader, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, width: int) -> int:
        """Read the next `width` bits. Raises ValueError past the end."""
        self._left -= width
        if self._left < 0:
            raise ValueError("cut short")
        return self._number >> self._left & (1 << width) - 1

    def uvlc(self) -> None:
        """Skip a variable-length number."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros if zeros < 32 else 0)


def _pixels(bits: _Bits) -> int:
    """Return the pixels of the largest frame that a sequence header (5.5.1) allows."""
    bits.read(4)  # profile and still-picture flag
    reduced = bits.read(1)
    if reduced:
        bits.read(5)  # the level
    else:
        _skip_timing(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    # Frames may override the size unless the header is reduced, and decoders do not check the override against the
    # header.
    return width * height if reduced else 1 << width_bits + height_bits


def _skip_timing(bits: _Bits) -> None:
    """Skip the timing info and the operating points of a sequence header."""
    delay_width = 0
    if bits.read(1):  # timing info
        bits.read(64)
        if bits.read(1):
            bits.uvlc()
        if bits.read(1):  # decoder model
            delay_width = bits.read(5) + 1
            bits.read(42)
    shown_late = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # a level that has tiers
            bits.read(1)
        if delay_width and bits.read(1):
            bits.read(2 * delay_width + 1)
        if shown_late and bits.read(1):
            bits.read(4)
