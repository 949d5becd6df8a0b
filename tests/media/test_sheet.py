"""Sheets: every chosen frame stands where it should, and labels can be read and never spill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.sheet import chosen, contact_sheet

MARGIN, TEXT_ROW, GAP, ROW_GAP = 20, 24, 4, 16


def film(frames: int, colour: int, height: int = 128, width: int = 128) -> np.ndarray:
    """Flat frames whose red says the film and whose green says the frame."""
    pixels = np.zeros((frames, height, width, 3), np.uint8)
    pixels[..., 0] = colour
    pixels[..., 1] = np.arange(frames, dtype=np.uint8)[:, None, None] * 10
    return pixels


@given(st.integers(1, 300), st.integers(1, 40))
def test_chosen_frames_are_evenly_spread(count: int, columns: int) -> None:
    indices = chosen(count, columns)
    assert indices == sorted(set(indices)) and len(indices) == min(count, columns)
    assert indices[0] == 0 and (columns == 1 or indices[-1] == count - 1)
    steps = np.diff(indices)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_rows_are_films_and_columns_are_frames() -> None:
    films = [film(16, 40), film(16, 200), film(3, 120)]
    sheet = np.asarray(contact_sheet(films, ["one", "two", "three"], columns=4))
    row = TEXT_ROW + 128 + ROW_GAP
    assert sheet.shape == (3 * row - ROW_GAP + 2 * MARGIN, 4 * (128 + GAP) - GAP + 2 * MARGIN, 3)
    for number, (colour, greens) in enumerate([(40, [0, 50, 100, 150]), (200, [0, 50, 100, 150]), (120, [0, 10, 20])]):
        middle = MARGIN + number * row + TEXT_ROW + 64
        cells = [tuple(sheet[middle, MARGIN + 64 + column * (128 + GAP)]) for column in range(len(greens))]
        assert cells == [(colour, green, 0) for green in greens]
    empty = sheet[MARGIN + 2 * row + TEXT_ROW : -MARGIN, MARGIN + 3 * (128 + GAP) :]
    assert (empty == 255).all(), "a short film leaves the rest of its row blank"


def test_films_of_any_size_keep_their_shape() -> None:
    sheet = contact_sheet([film(2, 90, height=36, width=64)], [""], columns=2, cell=128)
    assert sheet.size == (2 * 128 + GAP + 2 * MARGIN, 72 + TEXT_ROW + 2 * MARGIN)
    assert sheet.getpixel((MARGIN + 64, MARGIN + TEXT_ROW + 36)) == (90, 0, 0)


def test_labels_are_drawn_above_their_frames() -> None:
    blank = np.asarray(contact_sheet([film(4, 1), film(4, 2)], ["", ""], columns=4))
    named = np.asarray(contact_sheet([film(4, 1), film(4, 2)], ["", "a gjpqy circle"], columns=4))
    rows = np.flatnonzero((blank != named).any(axis=(1, 2)))
    top = MARGIN + TEXT_ROW + 128 + ROW_GAP
    assert top <= rows.min() and rows.max() < top + TEXT_ROW
    assert rows.max() - rows.min() >= 8, "letters must be large enough to read"


def test_labels_contrast_with_the_background() -> None:
    sheet = np.asarray(contact_sheet([film(1, 1)], ["|||||"])).astype(int)
    band = sheet[MARGIN : MARGIN + TEXT_ROW].sum(axis=2)
    assert band.max() - band.min() > 500


@given(st.text(max_size=60))
def test_any_label_is_drawn_inside_the_sheet(label: str) -> None:
    sheet = np.asarray(contact_sheet([film(2, 1)], [label * 5], columns=2))
    assert (sheet[:, -MARGIN:] == 255).all() and (sheet[:MARGIN] == 255).all()


def test_long_labels_are_marked_as_cut_and_accents_are_replaced() -> None:
    def drawn(label: str) -> bytes:
        return contact_sheet([film(2, 1)], [label], columns=2).tobytes()

    assert drawn("word " * 50) != drawn("word " * 5)
    assert drawn("word " * 50) == drawn("word " * 60)
    assert drawn("scène — 2×2\n naïve") == drawn("scene - 2x2 naive")


def test_a_white_frame_on_white_has_a_border() -> None:
    sheet = np.asarray(contact_sheet([np.full((1, 64, 64, 3), 255, np.uint8)], [""]))
    strip = sheet[MARGIN + TEXT_ROW : -MARGIN, MARGIN : MARGIN + 128]
    assert (strip[0] < 255).all() and (strip[1:-1, 1:-1] == 255).all()


def test_invalid_sheet_arguments_are_refused() -> None:
    with pytest.raises(RequestError, match="^labels=1: .*2 films"):
        contact_sheet([film(1, 1), film(1, 1)], ["one"])
    with pytest.raises(RequestError, match="^labels=0"):
        contact_sheet([], [])
    with pytest.raises(RequestError, match="^frames="):
        contact_sheet([film(1, 1)[0]], ["a frame, not a film"])
    with pytest.raises(RequestError, match="^columns=0"):
        contact_sheet([film(1, 1)], [""], columns=0)
    with pytest.raises(RequestError, match="^cell=7"):
        contact_sheet([film(1, 1)], [""], cell=7)
