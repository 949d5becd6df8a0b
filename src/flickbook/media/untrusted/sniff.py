"""Detection of file formats by their first bytes, the supported formats, and the size limits of images and videos."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from typing import Final, Literal

from PIL import UnidentifiedImageError
from PIL.Image import DecompressionBombError

from flickbook.errors import MediaError, shown
from flickbook.media.write import FilePath

Kind = Literal["picture", "film", "either", "sound"]
REMEDY: Final = "convert it to PNG or JPEG, or a film to H.264 MP4"
DAMAGED: Final = ("cut short or damaged", "fetch or export it again")
_HEAD_BYTES: Final = 64
DECODER_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError),
    *(struct.error, zlib.error, DecompressionBombError),
)


@dataclass(frozen=True)
class Limits:
    """Limits checked before decoding: bytes of the file, pixels per frame, frames, bytes of all frames as RGB."""

    file_bytes: int = 1 << 30
    pixels: int = 4096 * 4096
    frames: int = 4096
    decoded_bytes: int = 2 << 30


DEFAULT_LIMITS: Final = Limits()
MAX_RATE: Final = 1000  # frames per second
#: An image may be larger than a frame, because cameras have 50 megapixels; its file must fit in memory.
PICTURE_LIMITS: Final = Limits(file_bytes=128 << 20, pixels=8192 * 6144)


@dataclass(frozen=True)
class Format:
    """A supported format. `pillow` is Pillow's name if it may be an image; `demuxer` is FFmpeg's if a video.

    Both are passed to the libraries, to prevent guessing: FFmpeg could detect a playlist, which opens other files.
    """

    name: str
    pillow: str = ""
    demuxer: str = ""
    codecs: tuple[str, ...] = ()
    moves: bool = False


_MPEG4: Final = ("h264", "hevc", "mpeg4", "av1", "vp9")
MP4: Final = Format("mp4", demuxer="mp4", codecs=_MPEG4, moves=True)
MOV: Final = Format("mov", demuxer="mov", codecs=_MPEG4, moves=True)
WEBM: Final = Format("webm", demuxer="matroska", codecs=("vp8", "vp9", "av1"), moves=True)
MATROSKA: Final = Format("matroska", demuxer="matroska", codecs=(*WEBM.codecs, "h264", "hevc", "ffv1"), moves=True)
AVI: Final = Format("avi", demuxer="avi", codecs=("mpeg4", "mjpeg", "h264"), moves=True)
GIF: Final = Format("gif", pillow="GIF", demuxer="gif", codecs=("gif",), moves=True)
WEBP: Final = Format("webp", pillow="WEBP")
MOVING_WEBP: Final = Format("webp", pillow="WEBP", moves=True)
PNG: Final = Format("png", pillow="PNG")
MOVING_PNG: Final = Format("apng", pillow="PNG", moves=True)
JPEG: Final = Format("jpeg", pillow="JPEG")
BMP: Final = Format("bmp", pillow="BMP")
TIFF: Final = Format("tiff", pillow="TIFF")
AVIF: Final = Format("avif", pillow="AVIF")
_MAGIC: Final = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"BM": BMP,
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
}
_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"free", b"skip")  # first boxes of QuickTime files before 2001
#: For the animated ones (avis, msf1), a video demuxer would find only the still image.
_STILL_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis", b"msf1")
WAV: Final = Format("wav", demuxer="wav")
FLAC: Final = Format("flac", demuxer="flac")
OGG: Final = Format("ogg", demuxer="ogg")
MP3: Final = Format("mp3", demuxer="mp3")
SOUND_REMEDY: Final = "convert it to WAV, FLAC, MP3, Ogg or M4A"
#: Bits of the first two bytes of an MPEG audio frame without a tag: the sync word, and layer III.
_MPEG_AUDIO: Final = (0xFFE6, 0xFFE2)
_MAX_EARLY: Final = 1 << 16  # PNG chunks up to the start of the second frame


def sniff(head: bytes) -> Format | None:
    """Detect the format from a file's first 64 bytes; None if it is not supported."""
    if head[4:8] == b"ftyp":
        brand, others = head[8:12], head[16 : max(16, int.from_bytes(head[:4], "big"))]
        if brand in _STILL_BRANDS:
            return AVIF if brand == b"avif" or (brand == b"mif1" and b"avif" in others) else None
        return MOV if brand == b"qt  " else MP4
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return MOVING_WEBP if head[12:16] == b"VP8X" and head[20:21] > b"" and head[20] & 2 else WEBP
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return WEBM if b"webm" in head else MATROSKA
    if head[4:8] in _QUICKTIME and head[:1] == b"\0":
        return MOV
    return next((found for magic, found in _MAGIC.items() if head.startswith(magic)), None)


def sniff_sound(head: bytes) -> Format | None:
    """Detect the format of a file that may hold sound from its first 64 bytes; None if it is not supported."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return WAV
    if head[:4] in (b"fLaC", b"OggS"):
        return FLAC if head[:1] == b"f" else OGG
    if head[:3] == b"ID3" or int.from_bytes(head[:2], "big") & _MPEG_AUDIO[0] == _MPEG_AUDIO[1]:
        return MP3
    form = sniff(head)
    return form if form in (MP4, MOV, WEBM, MATROSKA, AVI) else None


def png_chunks(file: BufferedReader) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, content offset and length of each chunk that begins in a PNG, complete or not.

    A chunk is its length (4 bytes, big endian), its type (4 bytes), its content, and a checksum (4 bytes).
    """
    start = 8  # after the PNG signature
    while len(head := _read_at(file, start, 8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, start + 8, length
        start += 12 + length


def _read_at(file: BufferedReader, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _moving(file: BufferedReader) -> bool:
    """Whether a PNG is animated: an acTL chunk before the pixels, and a frame (fcTL).

    Otherwise it is a still image.
    """
    animated = False
    for kind, _, _ in islice(png_chunks(file), _MAX_EARLY):
        animated = animated or kind == b"acTL"
        if kind == b"fcTL" and animated:
            return True
        if kind in (b"IEND", b"fdAT") or (kind == b"IDAT" and not animated):
            break
    return False


@contextmanager
def opened(path: FilePath, limits: Limits | None, kind: Kind) -> Iterator[tuple[BufferedReader, Format, Limits]]:
    """Yield the file at its start, its format, which must be of `kind`, and `limits`, by default those of the format.

    Every error while the file is read is converted to a MediaError.
    """
    try:
        _check_regular(path, os.stat(path))  # opening a pipe or a device could block forever
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            facts = os.fstat(handle)
            _check_regular(path, facts)  # it may have been replaced meanwhile
            form = _format(path, file, kind)
            judge = limits or (DEFAULT_LIMITS if form.moves else PICTURE_LIMITS)
            within(path, "bytes", facts.st_size, judge.file_bytes)
            file.seek(0)
            yield file, form, judge
    except FileNotFoundError:
        raise MediaError(path, "no such file", "check the path") from None
    except MemoryError:
        raise MediaError(path, "needs more memory than there is", "make it shorter or smaller") from None
    except DECODER_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, UnidentifiedImageError):  # its message names the file object of this process
            reason = "its header is damaged"
        raise MediaError(path, f"cannot be read ({shown(reason)})", "check that it is complete and readable") from error


def _check_regular(path: FilePath, facts: os.stat_result) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise MediaError(path, "a directory, not a regular file", "name a picture or film in it")
    if not stat.S_ISREG(facts.st_mode):
        raise MediaError(path, "not a regular file", "name a picture or film on a disk")


def _format(path: FilePath, file: BufferedReader, kind: Kind) -> Format:
    head = file.read(_HEAD_BYTES)
    if kind == "sound" and head:
        heard = sniff_sound(head)
        if heard is None:
            raise MediaError(path, f"begins with {shown(head[:12])}, as no sound does that is read", SOUND_REMEDY)
        return heard
    form = sniff(head)
    if form is not None:
        form = MOVING_PNG if form == PNG and _moving(file) else form
        if kind == "picture" and not form.pillow:
            raise MediaError(path, "a film, not a picture", "name a picture, or give it as the video")
        if kind == "film" and not form.moves:
            raise MediaError(path, "a picture, not a film", "name a film, or give it as the image")
        return form
    if not head:
        raise MediaError(path, "empty, 0 bytes", "fetch or export it again")
    if head[4:8] == b"ftyp":
        reason = f"a picture of kind {shown(head[8:12].decode('ascii', 'replace'))}, which is not read"
        raise MediaError(path, reason, "save it as JPEG or PNG")
    raise MediaError(path, f"begins with {shown(head[:12])}, as no picture or film does that is read", REMEDY)


def within(path: FilePath, what: str, value: int, limit: int) -> None:
    """Raises MediaError, which names both numbers, if `value` is above `limit`."""
    if value > limit:
        raise MediaError(path, f"{value} {what}, more than the limit of {limit}", "make it shorter or smaller")


def check_size(path: FilePath, frames: int, height: int, width: int, limits: Limits) -> None:
    """Raises MediaError if the sizes in a header are zero or exceed `limits`."""
    if min(frames, height, width) < 1:
        size = f"{frames} frames of {width}x{height}"
        raise MediaError(path, f"its header says {size}", "export it again")
    within(path, "frames", frames, limits.frames)
    within(path, "pixels a frame", height * width, limits.pixels)
    within(path, "bytes once decoded", frames * height * width * 3, limits.decoded_bytes)
