"""Camera moves: what enters and leaves the view, and how it begins and ends."""

from __future__ import annotations

import numpy as np
import pytest

from flickbook.errors import RequestError
from flickbook.media.finishing.camera import camera


def still(column: int = 32, row: int = 32, count: int = 9) -> np.ndarray:
    """Equal frames with a white square around a place."""
    frames = np.zeros((count, 64, 64, 3), np.uint8)
    frames[:, row - 4 : row + 4, column - 4 : column + 4] = 255
    return frames


def centre(frame: np.ndarray) -> tuple[float, float]:
    """The centre of the light: row, column."""
    light = frame[..., 0].astype(float)
    rows, columns = np.indices(light.shape)
    return float((rows * light).sum() / light.sum()), float((columns * light).sum() / light.sum())


def test_objects_move_against_the_camera() -> None:
    for move, axis, sign in (("pan-left", 1, 1), ("pan-right", 1, -1), ("tilt-up", 0, 1), ("tilt-down", 0, -1)):
        moved = camera(still(), move)
        assert sign * (centre(moved[-1])[axis] - centre(moved[0])[axis]) > 10, move
        assert abs(centre(moved[-1])[1 - axis] - centre(moved[0])[1 - axis]) < 0.5


def test_zooming_in_enlarges_and_zooming_out_is_its_reverse() -> None:
    closer = camera(still(), "zoom-in")
    assert np.array_equal(closer[0], still()[0]) and closer[-1].sum() > 1.3 * closer[0].sum()
    assert np.array_equal(camera(still(), "zoom-out")[::-1], closer)


def test_a_move_begins_slowly() -> None:
    places = [centre(frame)[1] for frame in camera(still(), "pan-left")]
    steps = np.diff(places)
    assert (steps > 0).all() and steps[0] < steps[len(steps) // 2] and steps[-1] < steps[len(steps) // 2]


def test_an_unknown_move_is_refused() -> None:
    with pytest.raises(RequestError, match="choose pan-left"):
        camera(still(), "dolly")
