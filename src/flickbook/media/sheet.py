"""Contact sheets as images. Needs only Pillow."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flickbook.errors import RequestError
from flickbook.media.write import check_frames

_PAPER, _INK, _EDGE = "#ffffff", "#24292f", "#d0d7de"
_MARGIN: Final = 20  # pixels around the sheet
_GAP: Final = 4  # between frames
_ROW_GAP: Final = 16  # between films
_TEXT: Final = 15  # height of the label's letters
_TEXT_ROW: Final = 24  # height of the label's line
_SPELLED: Final = str.maketrans({"–": "-", "—": "-", "×": "x", "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae"})


def contact_sheet(
    films: Sequence[np.ndarray],
    labels: Sequence[str],
    columns: int = 8,
    *,
    cell: int = 128,
) -> Image.Image:
    """Return an image with one row per film: its label, and below it `columns` of its frames, evenly spaced.

    `films` are (frames, height, width, 3) uint8, of any size; each frame is drawn `cell` pixels wide. A film with fewer
    frames than `columns` shows each of them once. A label that is too long for the sheet ends in "…". Returns an image
    of mode RGB. Raises RequestError for no films, other arrays, or a different number of labels.
    """
    if len(films) == 0 or len(films) != len(labels):
        limit = f"must be one label for each of the {len(films)} films, and at least one"
        raise RequestError("labels", len(labels), limit, "give as many labels as films")
    _check_grid(columns, cell)
    strips = [_strip(film, columns, cell) for film in films]
    width = max(strip.width for strip in strips) + 2 * _MARGIN
    height = sum(_TEXT_ROW + strip.height + _ROW_GAP for strip in strips) - _ROW_GAP + 2 * _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    top = _MARGIN
    for label, strip in zip(labels, strips, strict=True):
        text = _fitted(label, width - 2 * _MARGIN, draw, font)
        draw.text((_MARGIN, top + _TEXT), text, fill=_INK, font=font, anchor="ls")
        sheet.paste(strip, (_MARGIN, top + _TEXT_ROW))
        top += _TEXT_ROW + strip.height + _ROW_GAP
    return sheet


def chosen(count: int, columns: int) -> list[int]:
    """Return at most `columns` different indices below `count`, evenly spaced, including the first and the last."""
    if columns == 1:
        return [0]
    return [round(i) for i in np.linspace(0, count - 1, min(count, columns))]


def _check_grid(columns: int, cell: int) -> None:
    if columns < 1:
        raise RequestError("columns", columns, "must be at least 1", "8 suit most films")
    if cell < 8:
        raise RequestError("cell", cell, "must be at least 8 pixels", "128 shows the built-in films as they are")


def _strip(frames: np.ndarray, columns: int, cell: int) -> Image.Image:
    check_frames(frames)
    height = max(1, round(cell * frames.shape[1] / frames.shape[2]))
    indices = chosen(len(frames), columns)
    strip = Image.new("RGB", (len(indices) * (cell + _GAP) - _GAP, height), _PAPER)
    draw = ImageDraw.Draw(strip)
    for place, index in enumerate(indices):
        left = place * (cell + _GAP)
        frame = Image.fromarray(np.ascontiguousarray(frames[index]))
        shown = frame if frame.size == (cell, height) else frame.resize((cell, height), Image.Resampling.LANCZOS)
        strip.paste(shown, (left, 0))
        # A hairline keeps a frame visible that has the colour of the background.
        draw.rectangle((left, 0, left + cell - 1, height - 1), outline=_EDGE)
    return strip


def _fitted(
    label: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> str:
    """Return `label` on one line, truncated to `width` pixels with an ellipsis."""
    text = _plain(" ".join(label.split()))
    if draw.textlength(text, font=font) <= width:
        return text
    keep = min(len(text), width)  # no letter is narrower than a pixel
    while keep and draw.textlength(text[:keep].rstrip() + "…", font=font) > width:
        keep -= 1
    return text[:keep].rstrip() + "…"


def _plain(text: str) -> str:
    """Reduce `text` to the letters of Pillow's built-in font: accents dropped, dashes plain, "?" for the rest."""
    letters = unicodedata.normalize("NFKD", text).translate(_SPELLED)
    kept = (c for c in letters if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() or c in "“”‘’…·°" else "?" for c in kept)
