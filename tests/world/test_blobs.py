"""Objects as blobs, on pictures drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flickbook.world.blobs import find, ground_colour, lab, label, normalise, of_film

BLUE, RED = (30, 60, 150), (225, 32, 38)


def film(*squares: tuple[int, int, int], frames: int = 2) -> np.ndarray:
    """Red squares (top, left, side) on blue."""
    made = np.full((frames, 128, 128, 3), BLUE, np.uint8)
    for top, left, side in squares:
        made[:, top : top + side, left : left + side] = RED
    return made


def test_a_square_is_one_blob_a_frame_with_place_area_and_colour() -> None:
    frames = film((40, 60, 20))
    found = find(frames, ground_colour(frames))
    assert [blob.frame for blob in found] == [0, 1]
    for blob in found:
        assert (blob.x, blob.y) == pytest.approx((69.5, 49.5), abs=0.2)
        assert blob.area == pytest.approx(400, rel=0.05)
        assert np.linalg.norm(blob.lab - lab(np.array(RED))) < 2 and not blob.cut


def test_two_that_stand_apart_are_two_and_a_speck_is_none() -> None:
    frames = film((20, 20, 20), (80, 80, 20), (60, 20, 4), frames=1)
    assert len(find(frames, ground_colour(frames))) == 2


def test_what_touches_the_edge_is_cut() -> None:
    frames = film((0, 60, 20), frames=1)
    (blob,) = find(frames, np.array([BLUE], float))
    assert blob.cut


def test_an_empty_film_has_no_blobs() -> None:
    frames = film()
    assert find(frames, ground_colour(frames)) == []


def test_the_objects_of_a_film_are_found_once_and_again_after_a_change() -> None:
    frames = film((40, 60, 20))
    found = of_film(frames)
    assert of_film(frames.copy()) is found and len(found[1]) == 2
    frames[:] = film((40, 60, 20), (80, 80, 20))
    assert len(of_film(frames)[1]) == 4


def test_the_ground_is_the_edges_median() -> None:
    frames = film((30, 30, 60))
    assert np.array_equal(ground_colour(frames), np.array([BLUE, BLUE], float))


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    assert lab(np.array(rgb)) == pytest.approx(np.array(expected), abs=0.2)


def test_the_same_outline_at_two_sizes_is_one_patch() -> None:
    small, large = np.zeros((64, 64)), np.zeros((64, 64))
    small[20:30, 20:30], large[10:40, 15:45] = 1, 1
    (*_, one), (*_, other) = normalise(small), normalise(large)
    assert float(one @ other) > 0.97


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=5, max_size=5))
def test_labels_are_those_of_a_flood(rows: list[list[bool]]) -> None:
    mask = np.array([rows], bool)
    labels = label(mask)[0]
    assert np.array_equal(labels > 0, mask[0])
    seen = np.zeros_like(labels)
    count = 0
    for start in zip(*np.nonzero(mask[0]), strict=True):
        if seen[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            if 0 <= y < 5 and 0 <= x < 6 and mask[0, y, x] and not seen[y, x]:
                seen[y, x] = count
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    assert labels.max(initial=0) == count
    pairs = {(a, b) for a, b in zip(labels[mask[0]].tolist(), seen[mask[0]].tolist(), strict=True)}
    assert len(pairs) == count
