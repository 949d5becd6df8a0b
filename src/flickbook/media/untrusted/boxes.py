"""Container structure of a video file, checked before FFmpeg opens it.

Refuses truncated files, and files whose index would exhaust memory. Only lengths and counts are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Final

from flickbook.errors import MediaError
from flickbook.media.untrusted.sniff import (
    AVI,
    DAMAGED,
    GIF,
    MATROSKA,
    MOV,
    MOVING_WEBP,
    MP4,
    PICTURE_LIMITS,
    WEBM,
    Format,
    within,
)
from flickbook.media.write import FilePath

_LARGE: Final = ("its index is too large or compressed", "make it shorter, or export it again")
_MAX_BOXES: Final = 4096
_MAX_INDEX_BYTES: Final = 64 << 20
_MAX_SAMPLES: Final = 1_000_000  # all tracks together; the demuxer allocates memory for each sample
_HOLDERS: Final = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf")  # boxes that contain boxes
_BULK: Final = (b"mdat", b"free", b"skip", b"wide")  # boxes the demuxer does not read into memory
_COUNTS: Final = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # offset of the sample count within a box

_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_ENTERED: Final = (_SEGMENT, _CLUSTER)
_HEADER: Final = 0x1A45DFA3
_TRACKS: Final = 0x1654AE6B
_MAX_ELEMENTS: Final = 500_000
# A two-byte element in the index may cost the demuxer hundreds of bytes, most of all in Tracks.
_MAX_TRACKS_BYTES: Final = 512 << 10
_MAX_PARTS_BYTES: Final = 4 << 20
_FOUR_BYTES: Final = 1 << 24  # four-byte ids are those of a segment's children

_MAX_WEBP_FRAMES: Final = 1 << 16
_MAX_GIF_LINKS: Final = 1 << 20
_MAX_AVI_BYTES: Final = {b"hdrl": 1 << 20, b"idx1": 16 << 20}


def check(path: FilePath, file: BufferedReader, form: Format) -> None:
    """Raises MediaError if the video is truncated or its index is too large. Rewinds the file.

    An animated PNG is checked by png.py, where its times are read.
    """
    size = file.seek(0, 2)
    if form in _CHECKS:
        _CHECKS[form](path, file, size)
    file.seek(0)


def _mp4(path: FilePath, file: BufferedReader, size: int) -> None:
    """Check ISO/IEC 14496-12: a box is its size (4 bytes, big endian), its type (4 bytes) and its content.

    Size 1 means that an 8-byte size follows the type; size 0 means that the box extends to the end of the file.
    """
    pending, boxes, samples, edits, indexed = [(0, size)], 0, 0, 0, False
    while pending:
        start, end = pending.pop()
        while start < end:
            file.seek(start)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            content = start + 8
            if length == 1:
                length, content = int.from_bytes(head[8:], "big"), start + 16
            elif length == 0:
                length = end - start
            boxes += 1
            if length < content - start or start + length > end:
                raise MediaError(path, *DAMAGED)
            if kind in _COUNTS:
                samples += _number(file, content + _COUNTS[kind])
            elif kind == b"elst":
                edits += _number(file, content + 4)
            large = boxes > _MAX_BOXES or (kind not in _BULK and length > _MAX_INDEX_BYTES)
            # Each edit may repeat every sample. A compressed index (cmov) could expand to any size.
            if large or samples * max(1, edits // 4) > _MAX_SAMPLES or kind == b"cmov":
                raise MediaError(path, *_LARGE)
            indexed = indexed or kind == b"moov"
            start += length
            if kind in _HOLDERS:
                pending.append((content, start))
    if not indexed:
        raise MediaError(path, "has no index (no box moov)", DAMAGED[1])


def _number(file: BufferedReader, at: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(4), "big")


def _matroska(path: FilePath, file: BufferedReader, size: int) -> None:
    """Check RFC 8794 and 9559: an element is its id, its length (1 to 8 bytes) and its content.

    Leading zeros encode the width of ids and lengths. Segments and clusters are entered; all other elements are
    skipped. A length of all ones means unknown, which only segments and clusters may have, for example in recordings of
    browsers.
    """
    at, end, elements, tracks, parts = 0, size, 0, 0, 0
    while at < end:
        file.seek(at)
        head = file.read(12)
        # Inlined for speed, because half a million elements may be walked: first the width of the id, then that of the
        # length.
        width = 9 - head[0].bit_length()
        more = 9 - head[width].bit_length() if width <= 4 and width < len(head) else 9
        if more > 8 or width + more > len(head):
            raise MediaError(path, *DAMAGED)
        kind = int.from_bytes(head[:width], "big")
        length = int.from_bytes(head[width : width + more], "big") - (1 << 7 * more)  # without the width marker
        at += width + more
        elements += 1
        unknown = length == (1 << 7 * more) - 1 and kind in _ENTERED
        if at + length > (size if kind == _SEGMENT else end) and not unknown:
            raise MediaError(path, *DAMAGED)
        if kind not in _ENTERED:
            at += length
            if kind >= _FOUR_BYTES:
                parts += length
                tracks += length if kind == _TRACKS else 0
        elif kind == _SEGMENT:
            end = size if unknown else at + length
        if elements > _MAX_ELEMENTS or tracks > _MAX_TRACKS_BYTES or parts > _MAX_PARTS_BYTES:
            raise MediaError(path, "its index or attachments are too large", "export it again without attachments")
        if at == end and at < size and _begins(file, at, _SEGMENT, _HEADER):
            end = size  # another segment, into which a demuxer would continue
    if elements < 2:
        raise MediaError(path, *DAMAGED)


def _begins(file: BufferedReader, at: int, *kinds: int) -> bool:
    file.seek(at)
    return int.from_bytes(file.read(4), "big") in kinds


def riff_chunks(path: FilePath, file: BufferedReader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, content offset and length of each RIFF chunk in the bytes from `start` to `end`."""
    while start + 8 <= end:
        file.seek(start)
        kind, length = struct.unpack("<4sI", file.read(8))
        if start + 8 + length > end:
            raise MediaError(path, *DAMAGED)
        yield kind, start + 8, length
        start += 8 + length + length % 2  # chunks are aligned to 2 bytes


def _avi(path: FilePath, file: BufferedReader, size: int) -> None:
    chunks = trailing = 0
    for riff, content, length in riff_chunks(path, file, 0, size):
        if riff != b"RIFF":
            trailing += 1
            if trailing > _MAX_BOXES:  # zeros, for example
                raise MediaError(path, *DAMAGED)
            continue
        for kind, inner, inner_length in riff_chunks(path, file, content + 4, content + length):
            file.seek(inner)
            name = file.read(4) if kind == b"LIST" else kind
            chunks += 1
            most = size if name in (b"movi", b"JUNK") else _MAX_AVI_BYTES.get(name, 1 << 20)
            if chunks > _MAX_BOXES or inner_length > most:
                raise MediaError(path, *_LARGE)
    if not chunks:
        raise MediaError(path, *DAMAGED)


def webp_durations(path: FilePath, file: BufferedReader) -> list[int]:
    """Return the durations (ms) of the frames of an animated WebP. Raises MediaError if the file is truncated."""
    durations = []
    size = file.seek(0, 2)
    for _, content, length in riff_chunks(path, file, 0, size):
        for kind, inner, inner_length in riff_chunks(path, file, content + 4, content + length):
            if kind == b"ANMF":  # x, y, width and height, 3 bytes each, then the duration
                file.seek(inner + 12)
                durations.append(int.from_bytes(file.read(min(3, max(0, inner_length - 12))), "little"))
            if len(durations) > _MAX_WEBP_FRAMES:
                raise MediaError(path, *_LARGE)
        break
    return durations


def check_gif(path: FilePath, file: BufferedReader, whole: bool = True) -> None:
    """Check GIF89a: blocks of one type byte, each ending in a chain of length-prefixed sub-blocks of up to 255 bytes.

    Unless `whole`, only the blocks before the first image are checked.
    """
    file.seek(0)
    head = file.read(13)
    file.seek(_gif_colours(head[10:11]), 1)
    links = 0
    while (kind := file.read(1)) != b";":
        links += 1
        if kind == b"," and not whole:
            return
        if kind == b"\0":  # some writers leave a zero between blocks
            continue
        if kind == b"!":
            file.seek(1, 1)
        elif kind == b",":
            file.seek(_gif_colours(file.read(9)[8:]) + 1, 1)
        else:
            raise MediaError(path, *DAMAGED)
        while length := int.from_bytes(file.read(1), "big"):
            file.seek(length, 1)
            links += 1
            if links > _MAX_GIF_LINKS:
                raise MediaError(path, *_LARGE)


def _gif_colours(flags: bytes) -> int:
    """Return the size in bytes of the colour table that `flags`, one byte, announces."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _gif(path: FilePath, file: BufferedReader, size: int) -> None:
    within(path, "bytes", size, PICTURE_LIMITS.file_bytes)
    check_gif(path, file)


def _webp(path: FilePath, file: BufferedReader, size: int) -> None:
    within(path, "bytes", size, PICTURE_LIMITS.file_bytes)  # Pillow reads the whole file
    if not webp_durations(path, file):
        raise MediaError(path, "holds no frames", "name another film")


_CHECKS: Final[dict[Format, Callable[[FilePath, BufferedReader, int], None]]] = {
    MP4: _mp4,
    MOV: _mp4,
    MATROSKA: _matroska,
    WEBM: _matroska,
    AVI: _avi,
    GIF: _gif,
    MOVING_WEBP: _webp,
}
