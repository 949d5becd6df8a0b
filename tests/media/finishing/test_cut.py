"""Which frames a span names, and films at another rate."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.finishing.cut import at_rate, span, trim

Steps = Callable[..., np.ndarray]
Numbers = Callable[[np.ndarray], list[int]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5:1.5", (4, 12)),
        ("0.5:1.5s", (4, 12)),
        ("8:12f", (8, 12)),
        (" 1 : ", (8, 16)),
        (":1", (0, 8)),
        ("3:f", (3, 16)),
        (":2.0", (0, 16)),
        (".25:.5", (2, 4)),
        ("0:0.125", (0, 1)),
        ("0.06:0.2", (0, 2)),  # to the nearest frame
    ],
)
def test_spans_are_parsed_at_8_frames_a_second(text: str, expected: tuple[int, int]) -> None:
    assert span(text, 8, 16) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "two numbers with a colon"),
        (":", "two numbers with a colon"),
        ("f", "two numbers with a colon"),
        (":f", "two numbers with a colon"),
        ("1", "two numbers with a colon"),
        ("1:2:3", "two numbers with a colon"),
        ("1:2x", "two numbers with a colon"),
        ("٣:٤f", "two numbers with a colon"),
        ("1e1:2", "two numbers with a colon"),
        ("nan:1", "two numbers with a colon"),
        ("-1:2", "must not be negative"),
        ("0:-3f", "must not be negative"),
        ("1.5:3f", "whole numbers"),
        ("1:1", "holds no frame"),
        ("1.5:1", "holds no frame"),
        ("0:0.01", "holds no frame"),
        ("0:2.5", "within the film's 16 frames, 2 seconds"),
        ("16:f", "within the film's 16 frames"),
        ("999999999:", "within the film's 16 frames"),
    ],
)
def test_invalid_spans_are_refused(text: str, why: str) -> None:
    with pytest.raises(RequestError, match=why) as refused:
        span(text, 8, 16)
    assert refused.value.field == "trim" and "\n" not in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_a_span_of_the_film_or_refused(text: str) -> None:
    try:
        start, end = span(text, 24, 100)
    except RequestError:
        return
    assert 0 <= start < end <= 100


@given(st.integers(1, 300), st.data(), st.sampled_from([0.1, 8, 23.976, 24, 29.97, 240]))
def test_frames_and_their_times_name_the_same_span(n: int, data: st.DataObject, fps: float) -> None:
    start = data.draw(st.integers(0, n - 1))
    end = data.draw(st.integers(start + 1, n))
    assert span(f"{start}:{end}f", fps, n) == (start, end)
    rate = Fraction(fps).limit_denominator(1001)
    seconds = [f"{float(t / rate):.6f}" for t in (start, end)]
    assert span(":".join(seconds), fps, n) == (start, end)


def test_trim_returns_the_named_frames(steps: Steps, numbers: Numbers) -> None:
    film = steps(16)
    assert numbers(trim(film, 3, 6)) == [3, 4, 5] and numbers(trim(film, 14)) == [14, 15]
    part = trim(film, 0, 2)
    part[:] = 0
    assert numbers(film)[:2] == [0, 1], "the film itself stays"
    for start, end in ((-1, 3), (4, 4), (5, 4), (0, 17), (16, None)):
        with pytest.raises(RequestError, match="must be 0 to 16"):
            trim(film, start, end)


def test_changing_the_rate_keeps_the_duration(steps: Steps, numbers: Numbers) -> None:
    film = steps(8)
    assert numbers(at_rate(film, 8, 24)) == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 7]
    assert numbers(at_rate(film, 8, 4)) == [0, 2, 4, 6]
    assert np.array_equal(at_rate(film, 8, 8), film)
    assert numbers(at_rate(film, 8, 0.1)) == [0]


@given(st.integers(1, 20), st.floats(0.5, 60), st.floats(0.5, 60))
def test_changing_the_rate_keeps_frames_near_their_times(n: int, fps: float, new_fps: float) -> None:
    film = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    shown = at_rate(film, fps, new_fps)[:, 0, 0, 0].astype(float)
    assert abs(len(shown) / new_fps - n / fps) <= max(0.51 / new_fps, 1 / new_fps if len(shown) == 1 else 0)
    ticks = np.minimum(np.arange(len(shown)) / new_fps, (n - 1) / fps)  # the last frame is held to its end
    assert np.abs(shown / fps - ticks).max() <= 0.51 / fps + 1e-3 and (np.diff(shown) >= 0).all()


def test_rates_out_of_reach_are_refused(steps: Steps) -> None:
    for new_fps in (0, 0.05, 241, float("nan"), float("inf")):
        with pytest.raises(RequestError, match=r"0\.1 to 240"):
            at_rate(steps(4), 8, new_fps)
    with pytest.raises(RequestError, match="would make 38400 frames"):
        at_rate(steps(16), 0.1, 240)
