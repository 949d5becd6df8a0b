"""The motion word of a track, from tracks drawn by formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flickbook.world.motion import UNCLEAR, read

TIME = np.linspace(0, 1, 16)
STILL = np.full(16, 64.0)
SIZE = np.full(16, 20.0)


def word(
    x: np.ndarray = STILL,
    y: np.ndarray = STILL,
    radius: np.ndarray = SIZE,
    angle: np.ndarray = STILL,
    period: float = 0,
) -> str:
    """The word of a track of 16 frames."""
    return read(TIME, x, y, radius, angle, period)


@pytest.mark.parametrize("noise", [0.0, 1.5])
@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ({"x": 100 - 60 * TIME}, "left"),
        ({"x": 30 + 60 * TIME}, "right"),
        ({"y": 100 - 60 * TIME}, "up"),
        ({"y": 30 + 60 * TIME}, "down"),
        ({"y": 100 - 50 * np.abs(np.sin(2 * math.pi * TIME))}, "bouncing"),
        ({"x": 64 + 25 * np.cos(2 * math.pi * TIME), "y": 64 + 25 * np.sin(2 * math.pi * TIME)}, "circling"),
        ({"x": 64 + 25 * np.cos(-2 * math.pi * TIME), "y": 64 + 25 * np.sin(-2 * math.pi * TIME)}, "circling"),
        ({"radius": 10 + 25 * TIME}, "growing"),
        ({"radius": 35 - 25 * TIME}, "shrinking"),
        ({}, "none"),
    ],
)
def test_each_word_from_its_curve(track: dict[str, np.ndarray], expected: str, noise: float) -> None:
    rng = np.random.default_rng(0)
    shaken = {"x": STILL, "y": STILL, "radius": SIZE} | track
    assert word(**{name: values + noise * rng.standard_normal(16) for name, values in shaken.items()}) == expected


def test_a_turn_is_seen_up_to_the_shapes_own_period() -> None:
    quarter = math.pi / 2
    turning = (np.arange(16) * 0.3) % quarter
    assert word(angle=turning, period=quarter) == "spinning"
    assert word(angle=turning, period=0) == "none"  # a circle
    assert word(angle=np.random.default_rng(1).uniform(0, quarter, 16), period=quarter) == "none"


def test_what_no_word_fits_is_unclear() -> None:
    jumps = 64 + 30 * np.random.default_rng(2).choice([-1.0, 1.0], 16)
    assert word(x=jumps) == UNCLEAR
    assert word(x=64 + 10 * TIME) in ("none", UNCLEAR)  # too short a way


def test_one_frame_has_no_motion() -> None:
    one = np.ones(1)
    assert read(one, one, one, one, one, 0) == "none"
