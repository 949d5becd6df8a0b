"""Edges of frames, as a control video."""

from __future__ import annotations

import numpy as np

from flickbook.media.finishing.edges import edges


def test_edges_are_white_lines_around_a_square() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0, 16:48, 16:48] = (250, 40, 40)
    drawn = edges(frames)
    assert drawn.shape == frames.shape and drawn.dtype == np.uint8
    assert set(np.unique(drawn)) == {0, 255} and not drawn[1].any()
    rows, columns = np.nonzero(drawn[0, :, :, 0])
    assert {rows.min(), columns.min()} <= {15, 16} and {rows.max(), columns.max()} <= {47, 48}
    assert not drawn[0, 20:44, 20:44].any(), "the inside of the square has none"
