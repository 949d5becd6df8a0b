"""The units of an AV1 stream (AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5), walked before a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_MAX_UNITS: Final = 1 << 16


class Stream(NamedTuple):
    """What the units of a stream say: how many frames there are, and how many pixels one can have at most."""

    frames: int
    pixels: int


def judged(data: bytes) -> Stream:
    """What the units in `data` say, a picture or what one packet of a film holds. Raises ValueError for what is none.

    The pixels are 0 if no unit says a size. Where each frame can say its own, that is the largest that it can say.
    """
    frames = pixels = 0
    for kind, start, end in _units(data):
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind == _SEQUENCE:
            pixels = max(pixels, _pixels(_Bits(data[start : min(end, start + 1024)])))
    return Stream(frames, pixels)


def _units(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The kind of each unit, and where its content begins and ends."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        flags = data[at]
        at += 2 if flags & 4 else 1  # a byte about layers may follow
        length, width = (len(data) - at, 0) if not flags & 2 else _leb128(data, at)
        at += width
        if flags & 0x80 or length < 0 or at + length > len(data):
            raise ValueError("not a unit of AV1")
        yield flags >> 3 & 15, at, at + length
        at += length
    raise ValueError("too many units")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and its bytes."""
    value = 0
    for width, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * width
        if not byte & 0x80:
            return value, width + 1
    raise ValueError("not a number")


class _Bits:
    """Numbers of any width, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, width: int) -> int:
        """The next `width` bits. Raises ValueError behind the end."""
        self._left -= width
        if self._left < 0:
            raise ValueError("cut short")
        return self._number >> self._left & (1 << width) - 1

    def uvlc(self) -> None:
        """Step over a number that says its own width."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros if zeros < 32 else 0)


def _pixels(bits: _Bits) -> int:
    """The pixels of the largest frame that a sequence header (5.5.1) allows."""
    bits.read(4)  # profile, and whether it is a still picture
    reduced = bits.read(1)
    if reduced:
        bits.read(5)  # the level
    else:
        _skip_timing(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    # Only where the header is not reduced may a frame say another size, and decoders do not hold it against this one.
    return width * height if reduced else 1 << width_bits + height_bits


def _skip_timing(bits: _Bits) -> None:
    """Step over the times and the operating points of a sequence header."""
    delay_width = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.uvlc()
        if bits.read(1):  # the decoder's model
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
