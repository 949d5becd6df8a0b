"""Which steps and frames a figure shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flickbook.explain.figures.pictures import spread


@given(count=st.integers(1, 100), most=st.integers(2, 30), power=st.sampled_from([1.0, 1.4]))
def test_the_first_and_the_last_are_shown_and_never_too_many(count: int, most: int, power: float) -> None:
    places = spread(count, most, power)
    assert places[0] == 0 and places[-1] == count - 1
    assert len(places) <= most and (power > 1 or len(places) == min(most, count))
