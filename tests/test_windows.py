"""Where windows lie, and which prompt each shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flickbook.windows import prompt_of, starts


@given(frames=st.integers(1, 300), half=st.integers(1, 32), shift=st.floats(0, 1))
def test_windows_cover_the_film_and_overlap_by_half(frames: int, half: int, shift: float) -> None:
    window = 2 * half
    found = starts(frames, window, int(shift * half))
    assert found[0] == 0 and found == sorted(set(found))
    assert found[-1] == max(0, frames - window)
    assert all(1 <= b - a <= half for a, b in zip(found, found[1:], strict=False))


def test_a_prompt_acts_from_the_window_whose_middle_it_reaches() -> None:
    found = [prompt_of(start, 16, [0, 16, 40]) for start in starts(64, 16)]
    assert found == [0, 1, 1, 1, 2, 2, 2]
