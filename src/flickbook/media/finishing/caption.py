"""Captions on films: wrapped text with an outline that is readable on any background. Needs only Pillow."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from flickbook.errors import RequestError, shown
from flickbook.media.write import check_frames

MAX_CHARACTERS: Final = 500
_LEAST: Final = 9  # pixels: the smallest letters; a text that does not fit at this size is refused
_MAX_FONT_BYTES: Final = 64 << 20
_FONTS: Final = (b"\0\1\0\0", b"OTTO", b"true", b"ttcf")  # first bytes of TrueType and OpenType files
_NOWHERE: Final = "\U0010ffff"  # no font has it, so it renders as the glyph for missing letters
_LINE: Final = 1.25  # line spacing as a multiple of the size
_BACKING: Final = 0.5  # how far the background near the letters is darkened
_FULLER: Final = 0.75  # exponent of the letters' coverage: compensates thin strokes beside an outline


@dataclass(frozen=True)
class Lettering:
    """Text laid out for frames of one size: its lines, letters of `size` pixels, and the box that contains every mark.

    `box` is left, top, right, bottom in pixels, right and bottom excluded.
    """

    lines: tuple[str, ...]
    size: int
    box: tuple[int, int, int, int]


def caption(
    frames: np.ndarray,
    text: str,
    font: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Return a copy of `frames` (n, height, width, 3) uint8 with `text` at the bottom, white with a black outline.

    `text` is 1 to 500 characters; it is wrapped to the width, and its line breaks are kept. Pillow's built-in font
    covers English; for other languages pass a TrueType or OpenType file as `font`. Pixels outside the text's box are
    unchanged. Raises RequestError for a font that cannot be read, for letters that the font lacks, and for a text that
    does not fit.
    """
    check_frames(frames)
    height, width = frames.shape[1:3]
    face = _face(font)
    set_ = lettering(text, height, width, face)
    left, top, right, bottom = set_.box
    letters, outlined, backed = _masks(set_, face(set_.size))
    done = frames.copy()
    for frame in done:
        part = frame[top:bottom, left:right].astype(np.float32)
        part -= _BACKING * backed * part
        part -= outlined * part
        part += letters * (255.0 - part)
        frame[top:bottom, left:right] = part.round().astype(np.uint8)
    return done


_Face = Callable[[int], ImageFont.FreeTypeFont]


def _face(font: str | os.PathLike[str] | None) -> _Face:
    """Return a function from size to font. A file is read once, so that all sizes come from the same file."""
    if font is None:
        return _bundled
    path = Path(font)
    remedy = "name a TrueType or OpenType file (.ttf, .otf)"
    try:
        if not path.is_file():
            raise RequestError("font", path, "is not a file", remedy)
        if path.stat().st_size > _MAX_FONT_BYTES:
            raise RequestError("font", path, f"is larger than {_MAX_FONT_BYTES >> 20} MiB", remedy)
        data = path.read_bytes()
        if not data.startswith(_FONTS):
            raise RequestError("font", path, "is not a TrueType or OpenType font", remedy)
        ImageFont.truetype(BytesIO(data), 16)
    except OSError as error:
        raise RequestError("font", path, f"cannot be read ({shown(error)})", remedy) from None
    return lambda size: ImageFont.truetype(BytesIO(data), size)


def _bundled(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RequestError("font", "Pillow's own", "needs a Pillow with FreeType", "reinstall Pillow from its wheel")
    return font


def lettering(text: str, height: int, width: int, face: _Face = _bundled) -> Lettering:
    """Lay out a text on frames of height x width pixels. Raises RequestError as `caption` does."""
    text = _checked(text, face(16))
    for size in range(max(_LEAST, min(96, round(6 + min(height, width) / 20))), _LEAST - 1, -1):
        found = _placed(text, height, width, size, face(size))
        if found is not None:
            return found
    limit = f"does not fit a frame of {width}x{height} in letters of {_LEAST} pixels"
    raise RequestError("text", text, limit, "shorten it or make the film larger")


def _checked(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return `text` normalised and trimmed. Raises RequestError for an invalid length or unsupported characters."""
    if len(text) > MAX_CHARACTERS or not text.strip():
        limit = f"has {len(text)} characters and must have 1 to {MAX_CHARACTERS} that show"
        raise RequestError("text", text, limit, "shorten it" if text.strip() else "write what is to be shown")
    lines = unicodedata.normalize("NFC", text.strip()).replace("\r\n", "\n").split("\n")
    lines = [" ".join(line.split()) for line in lines]
    hidden = {c for line in lines for c in line if not c.isprintable()}
    if hidden:
        raise RequestError("text", text, "holds characters that do not print", "leave out all but letters and signs")
    letters = sorted({c for line in lines for c in line} - {" "})
    none = _drawn(font, _NOWHERE)
    lacking = [c for c in letters if not unicodedata.combining(c) and _drawn(font, c) == none]
    if lacking:
        limit = f"the font has no {' '.join(lacking[:10])}"
        raise RequestError("text", text, limit, "name a TrueType or OpenType file that has it as the font")
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in letters) and not features.check("raqm"):
        raise RequestError("text", text, "is written from the right", "install a Pillow with Raqm, which can set it")
    return "\n".join(lines)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[bytes, tuple[int, int, int, int]]:
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    return bytes(font.getmask(character)), (left, top, right, bottom)


def _placed(text: str, height: int, width: int, size: int, font: ImageFont.FreeTypeFont) -> Lettering | None:
    """Return the lines and their box; None if they do not fit."""
    outline, step = _outline(size), round(_LINE * size)
    edge = _edge(size)
    room = width - 2 * (edge + outline)
    lines = [part for line in text.split("\n") for part in _wrapped(line, room, font)]
    if any(font.getlength(line) > room for line in lines):
        return None
    ascent, descent = font.getmetrics()
    # The margin contains the soft backing, and the overhang of slanted letters.
    high = (len(lines) - 1) * step + ascent + descent + 2 * (outline + edge)
    wide = min(width, round(max(font.getlength(line) for line in lines)) + 2 * (outline + edge))
    if high > height:
        return None
    left = (width - wide) // 2
    return Lettering(tuple(lines), size, (left, height - high, left + wide, height))


def _edge(size: int) -> int:
    return max(2, round(0.35 * size))


def _outline(size: int) -> int:
    return max(1, round(size / 11))


def _wrapped(line: str, room: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a line between words, and within words that are longer than a line."""
    lines = [""]
    for word in line.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def _masks(set_: Lettering, font: ImageFont.FreeTypeFont) -> list[np.ndarray]:
    """Return the coverage of the box's pixels by the letters, by letters and outline, and by the soft backing.

    Each is (h, w, 1), 0 to 1.
    """
    left, top, right, bottom = set_.box
    outline, edge, ascent = _outline(set_.size), _edge(set_.size), font.getmetrics()[0]
    masks = []
    for stroke in (0, outline):
        mask = Image.new("L", (right - left, bottom - top), 0)
        draw = ImageDraw.Draw(mask)
        for number, line in enumerate(set_.lines):
            at = ((right - left) / 2, edge + outline + ascent + number * round(_LINE * set_.size))
            draw.text(at, line, fill=255, font=font, anchor="ms", stroke_width=stroke)
        masks.append(mask)
    masks.append(masks[1].filter(ImageFilter.BoxBlur(edge / 2)).filter(ImageFilter.BoxBlur(edge / 2)))
    letters, outlined, backed = (np.asarray(mask, np.float32)[..., None] / 255 for mask in masks)
    return [letters**_FULLER, outlined, np.minimum(1, 1.5 * backed)]
