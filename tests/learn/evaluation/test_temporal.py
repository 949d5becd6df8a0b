"""Motion and flicker: VBench's formula, and the substitutes."""

from __future__ import annotations

import numpy as np
import pytest

from flickbook.learn.evaluation.temporal import dynamic, flickering, measure, smoothness, summary
from flickbook.world.render import render
from flickbook.world.scenes import FPS, Actor, Scene

MOVING = render(Scene("core", 4, "blue", (Actor("circle", "red", "right", "medium"),)))


def test_flickering_is_vbenchs_formula() -> None:
    film = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    wide = film.astype(float)
    expected = np.mean([np.abs(one - other).mean() for one, other in zip(wide, wide[1:], strict=False)])
    assert flickering(film) == pytest.approx((255 - expected) / 255)


def test_a_film_moves_or_stands() -> None:
    still = np.repeat(MOVING[:1], 16, axis=0)
    assert dynamic(MOVING, FPS) and not dynamic(still, FPS)
    assert not dynamic(still[:2], 24.0), "a pair of equal frames does not move at any rate"
    assert flickering(still) == 1.0 and smoothness(still) == pytest.approx(1, abs=1e-3)


def test_disorder_is_less_smooth() -> None:
    shuffled = MOVING[np.random.default_rng(1).permutation(16)]
    even, uneven = smoothness(MOVING), smoothness(shuffled)
    assert even is not None and uneven is not None and even > uneven
    assert smoothness(MOVING[:2]) is None


def test_a_summary_separates_static_films() -> None:
    found = summary([measure(MOVING[:4], FPS), {"flickering": 0.9, "dynamic": False, "smoothness": None}])
    assert found["films"] == 2 and found["static_films"] == 1 and found["flickering_of_static_films"] == 0.9
    none = summary([{"flickering": 0.9, "dynamic": True, "smoothness": None}])
    assert none["flickering_of_static_films"] is None and none["motion_smoothness_dis"] is None
