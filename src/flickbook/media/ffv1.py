"""What FFV1 says of itself (RFC 9043, 4.3), read before its decoder sets memory aside for it.

The decoder keeps a model of its own for each slice. A thousand slices with the largest models take four gigabytes,
and a file of a few hundred bytes can ask for them.
"""

from __future__ import annotations

from typing import Final

from flickbook.errors import MediaError
from flickbook.media.sniff import within
from flickbook.media.write import FilePath

#: How a state moves when its bit is 1 (RFC 9043, 3.8.1.5). After a 0, state s moves to 256 - MOVES[256 - s].
MOVES: Final = bytes.fromhex(
    "00000000000000001415161718191a1b1c1d1e1f20212223242525262728292a"
    "2b2c2d2e2f30313233343536373838393a3b3c3d3e3f40414243444546474849"
    "4a4b4b4c4d4e4f505152535455565758595a5b5c5d5e5e5f6061626364656667"
    "68696a6b6c6d6e6f70717272737475767778797a7b7c7d7e7f80818283848585"
    "868788898a8b8c8d8e8f90919293949596979898999a9b9c9d9e9fa0a1a2a3a4"
    "a5a6a7a8a9aaababacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebebfc0c2c2"
    "c3c4c5c6c7c8c9cacacccdcecfd0d1d1d2d3d4d5d7d7d8d9dadbdcdcdedfe0e1"
    "e2e3e3e5e5e6e7e8eaeaebecedeeeff0f1f2f3f4f5f6f7f8f800000000000000"
)
_EVEN: Final = 128  # the state in which a bit is as likely 0 as 1
_STATES: Final = 32  # of one number
_CUSTOM: Final = 2  # the coder type that brings its own table
_TABLES, _VALUES = 5, 128  # of a set that quantizes what a pixel is predicted from
_MAX_SETS: Final = 8
_PLANES: Final = 3  # brightness, both of colour as one, alpha
_LINE_BYTES: Final = 72  # that the decoder holds for each column in each slice: 12 lines, 16 and 32 bits
_MAX_BYTES: Final = 256 << 20  # a thousand slices of usual models take 90 MB


class _Coder:
    """The range coder (RFC 9043, 3.8.1) that FFV1's header is written with."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._range = data, 2, 0xFF00
        self._low = int.from_bytes(data[:2].ljust(2, b"\0"), "big")

    def bit(self, states: bytearray, place: int) -> bool:
        """One bit, whose state in `states` moves. Raises ValueError behind the end."""
        state = states[place]
        part = self._range * state >> 8
        self._range -= part
        found = self._low >= self._range
        if found:
            self._low -= self._range
            self._range = part
        states[place] = MOVES[state] if found else 256 - MOVES[256 - state]
        while self._range < 0x100:
            if self._at > len(self._data) + 2:
                raise ValueError("the header is cut short")
            byte = self._data[self._at] if self._at < len(self._data) else 0
            self._range, self._low, self._at = self._range << 8, self._low << 8 | byte, self._at + 1
        return found

    def number(self, states: bytearray, signed: bool = False) -> int:
        """One number: whether it is 0, how many bits it has, those bits, and its sign."""
        if self.bit(states, 0):
            return 0
        bits = 0
        while self.bit(states, 1 + min(bits, 9)):
            bits += 1
            if bits > 31:
                raise ValueError("a number of more than 32 bits")
        value = 1
        for each in reversed(range(bits)):
            value = value << 1 | self.bit(states, 22 + min(each, 9))
        return -value if signed and self.bit(states, 11 + min(bits, 10)) else value


def check(path: FilePath, header: bytes, width: int) -> None:
    """Raises MediaError if decoding a film of `width` pixels with this `header` would take more than 256 MB of models.

    Films of versions 0 and 1 have no header, and one slice.
    """
    if not header:
        return
    try:
        slices, contexts = _claimed(header)
    except ValueError:
        raise MediaError(path, "its FFV1 header is damaged", "fetch or export it again") from None
    taken = slices * (_PLANES * _STATES * contexts + _LINE_BYTES * width)
    within(path, f"bytes for {slices} slices", taken, _MAX_BYTES)


def _claimed(header: bytes) -> tuple[int, int]:
    """The slices of a frame and the contexts of the largest model. Raises ValueError for what is no header."""
    coder, states = _Coder(header), bytearray([_EVEN] * _STATES)
    version = coder.number(states)
    if version != 3:  # 2 and 4 are experiments
        raise ValueError("another version")
    coder.number(states)  # the micro version
    if coder.number(states) == _CUSTOM:
        for _ in range(255):
            coder.number(states, signed=True)
    for _ in range(2):  # colours, bits
        coder.number(states)
    coder.bit(states, 0)  # whether there are planes of chroma
    for _ in range(2):  # how they are halved
        coder.number(states)
    coder.bit(states, 0)  # whether there is alpha
    slices = (coder.number(states) + 1) * (coder.number(states) + 1)
    sets = coder.number(states)
    if not 1 <= sets <= _MAX_SETS:
        raise ValueError("no such number of sets")
    return slices, max(_contexts(coder) for _ in range(sets))


def _contexts(coder: _Coder) -> int:
    """How many contexts one set of tables tells apart: the product of the steps of each, signs aside."""
    product = 1
    for _ in range(_TABLES):
        states, done, steps = bytearray([_EVEN] * _STATES), 0, 0
        while done < _VALUES:
            done, steps = done + coder.number(states) + 1, steps + 1
        if done > _VALUES:
            raise ValueError("a table that is too long")
        product *= 2 * steps - 1
    return (product + 1) // 2
