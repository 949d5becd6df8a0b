"""Which frames stand at another rate: the nearest in time, found by a rule that tries them all."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flickbook.media.timeline import Shown, nearest


def film(starts: list[Fraction], last: Fraction) -> list[Shown]:
    times = [Fraction(0)] * (len(starts) - 1) + [last]
    return [
        Shown(start, seconds, lambda number=number: np.array(number))
        for number, (start, seconds) in enumerate(zip(starts, times, strict=True))
    ]


def by_rule(starts: list[Fraction], last: Fraction, count: int, fps: Fraction) -> list[int]:
    end = starts[-1] + last
    ticks = [each / fps for each in range(count)]

    def shown(tick: Fraction) -> bool:
        return tick <= starts[-1] or tick + 1 / fps / 2 <= end

    return [min(range(len(starts)), key=lambda k: (abs(starts[k] - t), k)) for t in ticks if shown(t)]


@given(
    gaps=st.lists(st.fractions(Fraction(1, 60), 2, max_denominator=60), max_size=12),
    last=st.fractions(Fraction(1, 60), 2, max_denominator=60),
    count=st.integers(1, 30),
    fps=st.fractions(Fraction(1, 10), 60, max_denominator=10),
)
def test_the_nearest_frame_is_chosen(gaps: list[Fraction], last: Fraction, count: int, fps: Fraction) -> None:
    starts = [sum(gaps[:k], Fraction(0)) for k in range(len(gaps) + 1)]
    found = [int(each) for each in nearest(film(starts, last), count, fps)]
    assert found == by_rule(starts, last, count, fps)


def test_only_the_needed_frames_are_consumed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Shown]:
        while True:
            taken.append(len(taken))
            yield Shown(Fraction(len(taken) - 1, 24), Fraction(0), lambda: np.array(0))

    assert len(list(nearest(endless(), 4, Fraction(8)))) == 4
    assert len(taken) == 10  # the fourth stands at 3/8 of a second, where the tenth of 24 a second begins


def test_only_chosen_frames_are_converted_once() -> None:
    converted: list[int] = []

    def pixels(number: int) -> np.ndarray:
        converted.append(number)
        return np.array(number)

    second = Fraction(1)
    shown = [Shown(k * second, second, lambda k=k: pixels(k)) for k in range(6)]
    assert [int(each) for each in nearest(shown, 3, Fraction(1, 2))] == [0, 2, 4]
    assert converted == [0, 2, 4]
    converted.clear()
    shown = [Shown(k * second, second, lambda k=k: pixels(k)) for k in range(2)]
    assert [int(each) for each in nearest(shown, 9, Fraction(4))] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert converted == [0, 1]


def test_a_last_frame_of_unknown_duration_gets_the_mean_duration() -> None:
    starts = [Fraction(0), Fraction(1, 4), Fraction(1, 2)]
    assert len(list(nearest(film(starts, Fraction(0)), 99, Fraction(8)))) == 6
    assert len(list(nearest(film([Fraction(0)], Fraction(0)), 99, Fraction(8)))) == 1
    assert list(nearest([], 3, Fraction(8))) == []
