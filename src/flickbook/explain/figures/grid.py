"""Figures that are grids of pictures: rows with a label, columns with a title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.media.plot import INK, QUIET, canvas, cut, saved

_SIDE: Final = 0.2  # inches
_LABEL: Final = 1.7
_GAP: Final = 0.06
_HEAD: Final = 0.92


@dataclass(frozen=True)
class Row:
    """A row of pictures (h, w, 3) uint8 or None for an empty cell, its name, and what it shows in a few words.

    `raw` pictures are latents, whose pixels are drawn as squares; `titles` are above its own pictures.
    """

    name: str
    note: str
    pictures: Sequence[np.ndarray | None]
    raw: bool = False
    titles: Sequence[str] = ()


def grid(
    rows: Sequence[Row],
    columns: Sequence[str],
    path: Path,
    *,
    title: str,
    note: str,
    cell: float = 0.95,
) -> Path:
    """Write a PNG of `rows` of pictures under the titles `columns`; `cell` is the width of a picture in inches.

    Raises OutputError for the path, MissingExtra without matplotlib.
    """
    first = next(picture for row in rows for picture in row.pictures if picture is not None)
    tall_cell = cell * first.shape[0] / first.shape[1]
    heights = [tall_cell + _GAP + (0.22 if row.titles else 0.0) for row in rows]
    count = max(len(row.pictures) for row in rows)
    wide = max(7.0, 2 * _SIDE + _LABEL + count * (cell + _GAP))
    lines = note.split("\n")
    head = _HEAD + 0.17 * (len(lines) - 1) + 0.15 * max((each.count("\n") for each in columns), default=0)
    tall = head + sum(heights) + 0.12
    with canvas(wide, tall) as figure:
        figure.text(_SIDE / wide, 1 - 0.34 / tall, cut(title, int(wide * 9.5)), fontsize=11, va="baseline")
        for number, line in enumerate(lines):
            place = 1 - (0.57 + 0.17 * number) / tall
            figure.text(_SIDE / wide, place, line, fontsize=7.5, color=QUIET, va="baseline")
        top = tall - head
        for number, (row, high) in enumerate(zip(rows, heights, strict=True)):
            top -= high
            middle = (top + tall_cell / 2) / tall
            figure.text(_SIDE / wide, middle + 0.03 / tall, row.name, fontsize=9, color=INK, va="bottom")
            figure.text(_SIDE / wide, middle - 0.03 / tall, row.note, fontsize=7, color=QUIET, va="top")
            for column, picture in enumerate(row.pictures):
                left = _SIDE + _LABEL + column * (cell + _GAP)
                axes = figure.add_axes((left / wide, top / tall, cell / wide, tall_cell / tall))
                axes.set_axis_off()
                if picture is not None:
                    axes.imshow(picture, interpolation="nearest" if row.raw else "antialiased")
                text = row.titles[column] if row.titles else columns[column] if number == 0 and columns else ""
                axes.set_title(text, fontsize=7, color=QUIET, pad=3, linespacing=1.15)
        return saved(figure, path, overwrite=True)


def coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values (..., h, w) as colours (..., h, w, 3) uint8, from dark at `low` to light at `high`."""
    from matplotlib import colormaps

    shares = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    found: np.ndarray = (colormaps["inferno"](shares)[..., :3] * 255).round().astype(np.uint8)
    return found


def heated(picture: np.ndarray, heat: np.ndarray, low: float, high: float) -> np.ndarray:
    """A picture (h, w, 3) uint8 in grey under the colours of `heat`, of any size, which is scaled to it."""
    from PIL import Image

    height, width = picture.shape[:2]
    grown = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    mixed: np.ndarray = 0.35 * grey[..., None] + 0.65 * coloured(grown, low, high)
    return mixed.round().astype(np.uint8)
