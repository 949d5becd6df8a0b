"""Films one after another: what stands where, and what cannot be joined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.finishing.join import cross_fade, join

Steps = Callable[..., np.ndarray]
Numbers = Callable[[np.ndarray], list[int]]


def flat(frames: int, level: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.full((frames, height, width, 3), level, np.uint8)


def test_films_are_joined_in_order(steps: Steps, numbers: Numbers) -> None:
    film = steps(20)
    joined = join([film[:3], film[10:12], film[5:6]])
    assert numbers(joined) == [0, 1, 2, 10, 11, 5]
    assert np.array_equal(join([film]), film) and join([film]) is not film


def test_a_fade_is_linear_and_overlaps_once() -> None:
    joined = join([flat(6, 0), flat(6, 200)], fade=3)
    assert joined[:, 0, 0, 0].tolist() == [0, 0, 0, 50, 100, 150, 200, 200, 200]
    assert join([flat(4, 0), flat(4, 90), flat(4, 180)], fade=2)[:, 0, 0, 0].tolist() == [
        0,
        0,
        30,
        60,
        120,
        150,
        180,
        180,
    ]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 6))
def test_every_joint_shortens_the_film_by_the_fade(lengths: list[int], fade: int) -> None:
    films = [flat(length, 40 * number, 2, 2) for number, length in enumerate(lengths)]
    joints = [(number > 0) + (number < len(films) - 1) for number in range(len(films))]
    if any(length < joint * fade for length, joint in zip(lengths, joints, strict=True) if joint):
        with pytest.raises(RequestError, match="which hold a fade of") as refused:
            join(films, fade)
        assert refused.value.field == "fade"
        return
    joined = join(films, fade)
    assert len(joined) == sum(lengths) - fade * (len(films) - 1)
    assert (np.diff(joined[:, 0, 0, 0].astype(int)) >= 0).all()


def test_an_eased_fade_begins_and_ends_slowly() -> None:
    levels = cross_fade(flat(9, 0), flat(9, 200), eased=True)[:, 0, 0, 0].astype(int)
    steps = np.diff([0, *levels, 200])
    assert steps[0] < 8 and steps[-1] < 8 and steps.max() == steps[4:6].max() < 35
    assert abs(int(levels[4]) - 100) <= 1


def test_another_size_is_refused_or_fitted() -> None:
    first, second = flat(2, 10, 32, 48), flat(2, 0, 64, 64)
    second[:, :, :8] = 255
    second[:, :8] = 120
    with pytest.raises(RequestError, match=r"films=64x64: is the size of film 2 and must be 48x32"):
        join([first, second])
    joined = join([first, second], fit=True)
    assert joined.shape == (4, 32, 48, 3) and (joined[:2] == 10).all()
    # 64x64 covers 48x32 as 48x48, so the band at its top is cut off and the one at its left stays, 6 pixels of it.
    assert (joined[2, :, :4] > 240).all() and (joined[2, :, 10:] < 10).all()


def test_films_are_converted_to_the_rate_of_the_first(steps: Steps, numbers: Numbers) -> None:
    film = steps(16)
    assert numbers(join([film[:2], film[4:12]], rates=[8, 16])) == [0, 1, 4, 6, 8, 10]
    assert numbers(join([film[:2], film[4:6]], rates=[8, 4])) == [0, 1, 4, 4, 5, 5]
    # Two frames become four, and hold the fade.
    assert len(join([film[:4], film[4:6]], 3, rates=[8, 4])) == 5


def test_invalid_joins_are_refused() -> None:
    with pytest.raises(RequestError, match="at least one"):
        join([])
    with pytest.raises(RequestError, match="must not be negative"):
        join([flat(2, 0), flat(2, 0)], fade=-1)
    with pytest.raises(RequestError, match="one for each of the 2 films"):
        join([flat(2, 0), flat(2, 0)], rates=[8])
    with pytest.raises(RequestError, match="10000 frames at the most"):
        join([np.broadcast_to(flat(1, 0, 1, 1), (6000, 1, 1, 3))] * 2)
    with pytest.raises(RequestError, match="uint8"):
        join([flat(2, 0) / 255])
