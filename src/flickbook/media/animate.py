"""Image and animation files through Pillow: GIF, animated WebP and APNG, PNG, JPEG, WebP and AVIF, byte-reproducible.

GIF and WebP animations are assembled here from single images that Pillow encodes. Pillow's own writers merge equal
frames, give each frame of a GIF its own palette, which flickers, and produce larger WebP files.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import getdata
from PIL.PngImagePlugin import PngInfo

from flickbook.formats import LOSSLESS
from flickbook.spec import Encoding

_SEEN_PIXELS: Final = 1 << 20  # pixels from which the initial palette is made
_MAX_CELLS: Final = 1 << 14  # cells of the colour cube that are distinguished
_ROUNDS: Final = 2  # k-means iterations; a third gains less than 0.2 dB
_UNCHANGED: Final = 255  # the transparent palette index of a GIF: the previous frame shows through
_LINK: Final = 255  # bytes in a GIF sub-block
_DESCRIPTION: Final = 0x010E  # ImageDescription (Exif 2.32, 4.6.4)
_ASCII: Final = 2
_WEBP_EXIF, _WEBP_MOVES = 0x08, 0x02
_SUBSAMPLING: Final = {"yuv444p": "4:4:4", "yuv422p": "4:2:2", "yuv420p": "4:2:0"}


def exif(comment: str | None) -> bytes:
    """Return the smallest Exif block with `comment` as its ImageDescription; b"" without a comment."""
    if not comment:
        return b""
    text = comment.encode() + b"\0"  # the Exif standard says ASCII; readers accept UTF-8
    head = struct.pack("<2sHIHHHI", b"II", 42, 8, 1, _DESCRIPTION, _ASCII, len(text))
    inside = len(text) <= 4
    return head + (text.ljust(4, b"\0") if inside else struct.pack("<I", 26)) + bytes(4) + (b"" if inside else text)


def encode_picture(path: Path, frame: np.ndarray, comment: str | None, how: Encoding) -> None:
    """Encode one frame (height, width, 3) uint8 to `path` in place, as PNG, JPEG, WebP or AVIF."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    with open(path, "wb") as file:
        if how.codec in ("png", "apng"):
            image.save(file, "PNG", pnginfo=_text(comment))
        elif how.codec == "webp":
            image.save(file, "WEBP", exif=exif(comment), **_webp_options(how))
        else:
            options: dict[str, Any] = {"quality": how.quality, "subsampling": _SUBSAMPLING[how.pixel_format]}
            if how.codec == "jpeg":
                image.save(file, "JPEG", exif=b"Exif\0\0" + exif(comment) if comment else b"", optimize=True, **options)
            else:
                # One thread and one tile: otherwise the bytes depend on the machine.
                image.save(file, "AVIF", exif=exif(comment), speed=6, max_threads=1, autotiling=False, **options)


def _text(comment: str | None) -> PngInfo:
    info = PngInfo()
    if comment:
        info.add_text("comment", comment)
    return info


def _webp_options(how: Encoding) -> dict[str, Any]:
    if how.quality == LOSSLESS:
        return {"lossless": True, "quality": 50, "method": 4}  # in lossless mode, `quality` is the effort
    return {"quality": how.quality, "method": 4}


def durations(count: int, fps: Fraction, unit: int) -> list[int]:
    """Return the durations of `count` frames in milliseconds, multiples of `unit`. Errors do not accumulate."""
    ends = [round(Fraction(1000, unit) * index / fps) * unit for index in range(count + 1)]
    return [end - begin for begin, end in zip(ends, ends[1:], strict=False)]


def encode_apng(path: Path, frames: np.ndarray, fps: Fraction, comment: str | None, how: Encoding) -> None:
    """Encode frames (frames, height, width, 3) uint8 to `path` in place as an APNG that loops forever."""
    if len(frames) == 1:
        encode_picture(path, frames[0], comment, how)
        return
    first, *others = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    # Pillow drops a frame that equals the previous one unless their blend modes differ. Without alpha, both modes look
    # the same.
    blends = [index % 2 for index in range(len(frames))]
    with open(path, "wb") as file:
        first.save(
            file,
            "PNG",
            save_all=True,
            append_images=others,
            duration=float(1000 / fps),
            loop=0,
            blend=blends,
            pnginfo=_text(comment),
        )


def encode_webp(path: Path, frames: np.ndarray, fps: Fraction, comment: str | None, how: Encoding) -> None:
    """Encode frames (frames, height, width, 3) uint8 to `path` in place as an animated WebP that loops forever.

    A single frame becomes a still WebP. (WebP Container Specification,
    https://developers.google.com/speed/webp/docs/riff_container)
    """
    if len(frames) == 1:
        encode_picture(path, frames[0], comment, how)
        return
    height, width = frames.shape[1:3]
    size = _three(width - 1) + _three(height - 1)
    flags = _WEBP_MOVES | (_WEBP_EXIF if comment else 0)
    parts = [_chunk(b"VP8X", struct.pack("<I", flags) + size), _chunk(b"ANIM", bytes(6))]
    for frame, duration in zip(frames, durations(len(frames), fps, 1), strict=True):
        still = BytesIO()
        Image.fromarray(np.ascontiguousarray(frame)).save(still, "WEBP", **_webp_options(how))
        # The image's only chunk follows the RIFF header. Flag 2: do not blend, replace the previous frame.
        parts.append(_chunk(b"ANMF", bytes(6) + size + _three(duration) + b"\2" + still.getvalue()[12:]))
    parts += [_chunk(b"EXIF", exif(comment))] if comment else []
    path.write_bytes(_chunk(b"RIFF", b"WEBP" + b"".join(parts)))


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def encode_gif(path: Path, frames: np.ndarray, fps: Fraction, comment: str | None, how: Encoding) -> None:
    """Encode frames (frames, height, width, 3) uint8 to `path` in place as a GIF that loops forever.

    All frames share one palette and none is dithered: both would flicker. Each frame stores only the pixels that
    changed. (CompuServe, Graphics Interchange Format 89a.)
    """
    assert how.quality != LOSSLESS
    colours, table = palette(frames, 2 + round((_UNCHANGED - 2) * how.quality / 100))
    height, width = frames.shape[1:3]
    with open(path, "wb") as file:
        file.write(struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF7, 0, 0))
        file.write(colours.tobytes().ljust(768, b"\0"))
        if len(frames) > 1:
            file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
        if comment:
            _write_comment(file, comment.encode())
        before: np.ndarray | None = None
        for frame, duration in zip(frames, durations(len(frames), fps, 10), strict=True):
            shown = table.of(frame)
            _write_gif_frame(file, shown, before, duration)
            before = shown
        file.write(b";")


def _write_comment(file: BinaryIO, text: bytes) -> None:
    links = [text[at : at + _LINK] for at in range(0, len(text), _LINK)]
    file.write(b"!\xfe" + b"".join(bytes([len(link)]) + link for link in links) + b"\0")


def _write_gif_frame(file: BinaryIO, shown: np.ndarray, before: np.ndarray | None, duration: int) -> None:
    """Write the smallest rectangle of `shown`, (height, width) uint8, with every pixel that differs from `before`."""
    top = left = 0
    if before is not None:
        changed = shown != before
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        # If nothing changed, one transparent pixel keeps the frame's duration.
        top, left = (int(rows[0]), int(columns[0])) if len(rows) else (0, 0)
        place = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1] if len(rows) else np.s_[:1, :1]
        shown = np.where(changed[place], shown[place], np.uint8(_UNCHANGED))
    image = Image.fromarray(np.ascontiguousarray(shown), "P")
    # Disposal 1: the next frame is drawn over this one.
    file.write(b"".join(getdata(image, (left, top), duration=duration, disposal=1, transparency=_UNCHANGED)))


class Table:
    """Maps each cell of the RGB cube to a palette index: `bits` per channel, one entry of `nearest` per cell."""

    def __init__(self, bits: int, nearest: np.ndarray) -> None:
        self.bits, self._nearest = bits, nearest

    def of(self, frame: np.ndarray) -> np.ndarray:
        """Return the palette indices (height, width) uint8 of a frame (height, width, 3) uint8."""
        return np.asarray(self._nearest[_cells(frame, self.bits)])


def palette(frames: np.ndarray, colours: int) -> tuple[np.ndarray, Table]:
    """Return a palette of at most `colours` colours, (n, 3) uint8, for all frames, and its Table.

    `frames` is (frames, height, width, 3) uint8. The palette is an octree's, refined by k-means (Lloyd 1982) and
    weighted by how often each colour occurs. On smooth films this gains 1.5 dB over the octree, and is more accurate
    than one palette per frame.
    """
    step = -(-frames[..., 0].size // _SEEN_PIXELS) | 1  # odd, so that no column is sampled more often than others
    seen = frames.reshape(-1, 3)[::step]
    strip = Image.fromarray(np.ascontiguousarray(seen)[None])
    start = strip.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).getpalette()
    centres = np.array(start, np.float32).reshape(-1, 3)[:colours]
    bits, used, counts, means = _histogram(frames)
    for _ in range(_ROUNDS):
        owner = _nearest(means, centres)
        weight = np.bincount(owner, counts, len(centres))
        for channel in range(3):
            total = np.bincount(owner, counts * means[:, channel], len(centres))
            centres[:, channel] = np.where(weight > 0, total / np.maximum(weight, 1), centres[:, channel])
    rounded = np.round(centres).astype(np.uint8)
    nearest = np.zeros(1 << 3 * bits, np.uint8)
    nearest[used] = _nearest(means, rounded.astype(np.float32))
    return rounded, Table(bits, nearest)


def _cells(frame: np.ndarray, bits: int) -> np.ndarray:
    """Return the index (height, width) of the RGB cube's cell that contains each pixel."""
    red, green, blue = np.moveaxis(frame >> (8 - bits), -1, 0).astype(np.int32)
    return np.asarray(red << 2 * bits | green << bits | blue)


def _histogram(frames: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return the bits per channel, the non-empty cells, their pixel counts, and their mean colours (n, 3)."""
    for bits in (6, 5):
        size = 1 << 3 * bits
        counts, totals = np.zeros(size), np.zeros((3, size))
        for frame in frames:
            cells = _cells(frame, bits).ravel()
            counts += np.bincount(cells, minlength=size)
            for channel in range(3):
                totals[channel] += np.bincount(cells, frame[..., channel].ravel(), size)
        used = np.flatnonzero(counts)
        if len(used) <= _MAX_CELLS:
            break
    return bits, used, counts[used], (totals[:, used] / counts[used]).T.astype(np.float32)


def _nearest(colours: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of `centres` (m, 3) for each of `colours` (n, 3)."""
    return np.asarray(((centres * centres).sum(1) - 2 * colours @ centres.T).argmin(1))
