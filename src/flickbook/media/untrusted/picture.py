"""Decoding of images. The size is read from the header before Pillow allocates memory."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from io import BufferedReader, BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile

from flickbook.errors import MediaError, shown
from flickbook.media.timeline import Shown
from flickbook.media.untrusted import avif, jpeg, png, tiff
from flickbook.media.untrusted.boxes import check_gif, webp_durations
from flickbook.media.untrusted.sniff import (
    AVIF,
    BMP,
    DAMAGED,
    GIF,
    JPEG,
    MAX_RATE,
    MOVING_PNG,
    PNG,
    TIFF,
    Format,
    Limits,
    check_size,
    within,
)
from flickbook.media.write import FilePath

_BAND_ROWS: Final = 256  # rows converted at once, so that copies stay small
_BMP_PLAIN: Final = (0, 3)  # uncompressed, without and with bit masks; run-length encoded files decode slowly
#: EXIF orientation -> counter-clockwise quarter turns, and whether to mirror left and right.
_TURNS: Final = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False)} | {
    7: (1, True),
    8: (1, False),
}
_SHORTEST: Final = 11  # milliseconds; browsers show a shorter frame for 100
_SHOWN_INSTEAD: Final = 100


@contextmanager
def picture(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> Iterator[tuple[Image.Image, int]]:
    """Yield the undecoded image, or the first of several, and its EXIF orientation, 1 to 8.

    Raises MediaError if it is damaged or larger than `limits`.
    """
    source: Any = file
    turned, exif = 1, b""
    if form == JPEG:
        height, width, channels, turned, data = jpeg.judged(path, _whole(path, file, limits))
        # A progressive JPEG is held in memory as coefficients, all channels at once.
        within(path, "values a frame", height * width * channels, 3 * limits.pixels)
        source = BytesIO(data)
        check_size(path, 1, height, width, limits)
    elif form == TIFF:
        height, width, turned, source = tiff.judged(path, _whole(path, file, limits), limits)
        check_size(path, 1, height, width, limits)
    elif form == AVIF:
        exif, source = avif.judged(path, _whole(path, file, limits), limits)
        if not features.check("avif"):
            raise MediaError(path, "this Pillow reads no AVIF", "install Pillow 11.3 or newer, or save it as PNG")
    else:
        check_size(path, 1, *_header_size(path, form, file.read(64)), limits)
    if form.name == "webp":
        webp_durations(path, file)  # limits the number of frames, because Pillow allocates memory for all of them
    elif form == GIF:
        check_gif(path, file, whole=False)  # Pillow concatenates comments in quadratic time
    elif form == MOVING_PNG:
        source = png.first(path, file, limits.file_bytes)
    with _opened(path, source, form, limits) as image:
        if form == AVIF:
            # Pillow reports the orientation in an Exif block of its own making.
            turned = tiff.orientation(image.info.pop("exif", b""))
            image.info |= {"exif": exif} if exif else {}
        elif form == PNG and isinstance(image, PngImageFile):
            image.is_animated = False  # the header may claim an animation that has no second frame
        yield image, turned


def _whole(path: FilePath, file: BufferedReader, limits: Limits) -> bytes:
    """Return the bytes of a file. It may have grown since it was checked; no more bytes are read than allowed."""
    size = file.seek(0, 2)
    within(path, "bytes", size, limits.file_bytes)
    file.seek(0)
    return file.read(size)


@contextmanager
def _opened(path: FilePath, source: Any, form: Format, limits: Limits) -> Iterator[Image.Image]:
    source.seek(0)
    if form.name == "webp":  # Pillow reads the whole file
        source = BytesIO(_whole(path, source, limits))
    try:
        with Image.open(source, formats=[form.pillow]) as image:
            # The first frame of a GIF may be larger than the header states.
            check_size(path, 1, image.height, image.width, limits)
            yield image
    except RuntimeError as error:  # the AVIF decoder raises it for every malformed file
        raise MediaError(path, f"cannot be read ({shown(error)})", "check that it is complete and readable") from error


def _header_size(path: FilePath, form: Format, head: bytes) -> tuple[int, int]:
    """Return height and width from the header."""
    try:
        if form in (PNG, MOVING_PNG) and head[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", head, 16)
        elif form == GIF:
            width, height = struct.unpack_from("<HH", head, 6)
        elif form == BMP:
            width, height = _bmp_size(path, head)
        elif head[12:16] == b"VP8X":
            width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        elif head[12:16] == b"VP8L":
            bits = struct.unpack_from("<I", head, 21)[0]
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif head[12:16] == b"VP8 ":
            width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", head, 26))
        else:
            raise MediaError(path, *DAMAGED)
    except struct.error:
        raise MediaError(path, *DAMAGED) from None
    return int(height), int(width)


def _bmp_size(path: FilePath, head: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", head, 14)[0] == 12:  # the OS/2 header
        width, height = struct.unpack_from("<HH", head, 18)
        return width, height
    width, height, _, _, compression = struct.unpack_from("<iiHHI", head, 18)
    if compression not in _BMP_PLAIN:
        raise MediaError(path, f"its BMP compression {compression} is not read", "save it as PNG")
    return width, abs(height)  # a negative height means that rows are stored top-down


def pixels(path: FilePath, image: Image.Image, turned: int) -> np.ndarray:
    """Return the pixels (height, width, 3) uint8 RGB with the orientation applied, composited on white.

    Of 16-bit values the upper 8 bits are kept. Colour profiles are not applied.
    """
    image.load()
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise MediaError(path, f"its pixels are of mode {image.mode}", "save it with 8 or 16 bits a channel")
    if "exif" in image.info and image.format != "AVIF":  # of PNG and WebP
        turned = tiff.orientation(image.info["exif"])
    turns, mirrored = _TURNS[turned]
    upright = np.rot90(_rgb(image), turns)
    return np.ascontiguousarray(upright[:, ::-1] if mirrored else upright)


def _rgb(image: Image.Image) -> np.ndarray:
    """Convert a decoded image to (height, width, 3) uint8, some rows at a time, so that copies stay small."""
    found = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(image.height, top + _BAND_ROWS)))
        found[top : top + _BAND_ROWS] = _on_white(band)
    return found


def _on_white(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)[:, :, None]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


class Animation:
    """An animated WebP or PNG, with the interface of `decode.Film`. Its header states all frames and durations."""

    def __init__(self, path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> None:
        self._path, self._file, self._form, self._limits = path, file, form, limits
        self.codec = form.name
        self.tags: dict[str, str] = {}
        if form == MOVING_PNG:
            self._durations, self._unit = png.times(path, file)
        else:
            given = webp_durations(path, file)
            self._durations, self._unit = [each if each >= _SHORTEST else _SHOWN_INSTEAD for each in given], 1000
        self.frames = len(self._durations)
        self.rate = Fraction(self._unit * self.frames, sum(self._durations))
        within(path, "frames a second", int(self.rate), MAX_RATE)
        file.seek(0)
        self.height, self.width = _header_size(path, form, file.read(64))
        check_size(path, 1, self.height, self.width, limits)

    def counted(self) -> tuple[int, Fraction]:
        """Return the number of frames and the frames per second."""
        return self.frames, self.rate

    def shown(self) -> Generator[Shown, None, None]:
        """Yield the frames, decoded lazily."""
        start = 0
        with _opened(self._path, self._file, self._form, self._limits) as image:
            # A PNG may begin with a still image for viewers without animation support.
            skipped = int(getattr(image, "default_image", False))
            for index, duration in enumerate(self._durations, skipped):
                image.seek(index)
                image.load()
                # Convert immediately, because the next frame is drawn over this one.
                yield Shown(
                    Fraction(start, self._unit), Fraction(duration, self._unit), partial(np.asarray, _rgb(image))
                )
                start += duration
