"""Decoding of images. The size is read from the header before Pillow allocates memory."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from io import BufferedReader, BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile

from flickbook.errors import MediaError, shown
from flickbook.media.timeline import Shown
from flickbook.media.untrusted import png
from flickbook.media.untrusted.boxes import check_gif, webp_durations
from flickbook.media.untrusted.sniff import (
    AVIF,
    BMP,
    DECODER_ERRORS,
    GIF,
    MAX_RATE,
    MOVING_PNG,
    TIFF,
    Format,
    Limits,
    check_size,
    within,
)
from flickbook.media.write import FilePath

_BAND_ROWS: Final = 256  # rows converted at once, so that copies stay small
#: The decoder holds an image three times in memory, so the limit is lower than for other formats.
MAX_AVIF_PIXELS: Final = 4096 * 4096
#: Compressions that are read, as Pillow names them. Run-length encoded BMP decodes slowly.
_COMPRESSIONS: Final[dict[Format, tuple[Any, ...]]] = {
    BMP: (0, 3),
    TIFF: ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate", "packbits"),
}
_DESCRIPTION, _ORIENTATION = 0x010E, 0x0112  # tags (Exif 2.32, 4.6.4)
#: EXIF orientation -> counter-clockwise quarter turns, and whether to mirror left and right.
_TURNS: Final = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False)} | {
    7: (1, True),
    8: (1, False),
}
_SHORTEST: Final = 11  # milliseconds; browsers show a shorter frame for 100
_SHOWN_INSTEAD: Final = 100
Image.MAX_IMAGE_PIXELS = None  # check_size names the limit


@contextmanager
def picture(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> Iterator[Image.Image]:
    """Yield the undecoded image, or the first of several. Raises MediaError if it is damaged or too large."""
    if form.name == "webp":
        webp_durations(path, file)  # limits the number of frames, because Pillow allocates memory for all of them
    elif form == GIF:
        check_gif(path, file, whole=False)  # Pillow concatenates comments in quadratic time
    elif form == AVIF:
        if not features.check("avif"):
            raise MediaError(path, "this Pillow reads no AVIF", "install Pillow 11.3 or newer, or save it as PNG")
        limits = replace(limits, pixels=min(limits.pixels, MAX_AVIF_PIXELS))
    with _opened(path, file, form, limits) as image:
        if isinstance(image, PngImageFile):
            image.is_animated = False  # the header may claim an animation that has no second frame
        yield image


@contextmanager
def _opened(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> Iterator[Image.Image]:
    """Yield the image as Pillow opens it: only its header is read. Raises MediaError if it is larger than `limits`."""
    size = file.seek(0, 2)
    within(path, "bytes", size, limits.file_bytes)  # it may have grown since it was checked
    file.seek(0)
    source: Any = BytesIO(file.read(size)) if form.name in ("webp", "avif") else file  # Pillow reads these as a whole
    try:
        with Image.open(source, formats=[form.pillow]) as image:
            check_size(path, 1, image.height, image.width, limits)
            packed = image.info.get("compression")
            if packed not in _COMPRESSIONS.get(form, (packed,)):
                raise MediaError(path, f"its {form.pillow} compression {shown(packed)} is not read", "save it as PNG")
            yield image
    except RuntimeError as error:  # the AVIF decoder raises it for every malformed file
        raise MediaError(path, f"cannot be read ({shown(error)})", "check that it is complete and readable") from error


def comment(exif: bytes) -> dict[str, str]:
    """Return the ImageDescription of an Exif block as the tag "comment"; empty if it is absent or unreadable."""
    found = _exif_tag(exif, _DESCRIPTION)
    # Pillow decodes as Latin-1, Flickbook and phones write UTF-8.
    return {"comment": found.encode("latin-1").decode("utf-8", "replace")} if isinstance(found, str) else {}


def _exif_tag(exif: bytes, tag: int) -> Any:
    with suppress(*DECODER_ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged tags
        block = Image.Exif()
        block.load(exif)
        return block.get(tag)
    return None


def upright_size(path: FilePath, image: Image.Image) -> tuple[int, int]:
    """Return the width and height of what `pixels` returns. The image is decoded, to find damage in it."""
    width, height = image.size
    image.draft(None, (1, 1))  # decodes a JPEG at an eighth of its size, which takes a fraction of the time
    image.load()
    turns, _ = _turned(path, image)
    if image.format == "TIFF":
        width, height = image.size
    return (height, width) if turns % 2 else (width, height)


def pixels(path: FilePath, image: Image.Image) -> np.ndarray:
    """Return the pixels (height, width, 3) uint8 RGB with the orientation applied, composited on white.

    Of 16-bit values the upper 8 bits are kept. Colour profiles are not applied.
    """
    image.load()
    turns, mirrored = _turned(path, image)
    upright = np.rot90(_rgb(image), turns)
    return np.ascontiguousarray(upright[:, ::-1] if mirrored else upright)


def _turned(path: FilePath, image: Image.Image) -> tuple[int, bool]:
    """Return the quarter turns and the mirroring of a decoded image. Raises MediaError if its pixels are not read."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise MediaError(path, f"its pixels are of mode {image.mode}", "save it with 8 or 16 bits a channel")
    # Pillow itself turns a TIFF while it decodes it.
    turned = 1 if image.format == "TIFF" else _exif_tag(image.info.get("exif", b""), _ORIENTATION)
    return _TURNS.get(turned, (0, False))


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
        if form == MOVING_PNG:
            self._durations, self._unit = png.times(path, file)
        else:
            durations = webp_durations(path, file)
            self._durations, self._unit = [each if each >= _SHORTEST else _SHOWN_INSTEAD for each in durations], 1000
        self.frames = len(self._durations)
        self.rate = Fraction(self._unit * self.frames, sum(self._durations))
        within(path, "frames a second", int(self.rate), MAX_RATE)
        with _opened(path, file, form, limits) as image:
            self.height, self.width = image.height, image.width
            self.tags = comment(image.info.get("exif", b""))

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
