"""Distances of sets of features: what they are 0 for, and how they grow."""

from __future__ import annotations

import numpy as np
import pytest

from flickbook.learn.evaluation.distances import frechet, mmd, nearest, spread


def drawn(seed: int, count: int = 4000, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(count, 6)) + shift


def test_frechet_is_that_of_two_gaussians() -> None:
    assert frechet(drawn(1), drawn(1)) == pytest.approx(0, abs=1e-9)
    assert frechet(drawn(1), drawn(2)) < 0.02
    # |m|^2 + trace of (s1 - s2)^2, six dimensions.
    assert frechet(drawn(1), drawn(2, shift=2)) == pytest.approx(6 * 4, rel=0.03)
    assert frechet(drawn(1), drawn(2, scale=3)) == pytest.approx(6 * 4, rel=0.03)


def test_frechet_needs_no_full_rank() -> None:
    few, many = drawn(1, 4), drawn(2)
    assert frechet(few, many) > frechet(drawn(3, 400), many) > 0


def test_mmd_is_unbiased_and_frechet_is_not() -> None:
    pairs = [(drawn(seed, 24), drawn(seed + 100, 24)) for seed in range(60)]
    assert abs(np.mean([mmd(*pair) for pair in pairs])) < 0.2 < np.mean([frechet(*pair) for pair in pairs])
    assert mmd(drawn(1, 200), drawn(2, 200, shift=1)) > 1


def test_the_nearest_clip_and_the_spread() -> None:
    clips = np.array([[0.0, 0, 0, 0], [2, 2, 2, 2]])
    assert nearest(np.array([[0.0, 0, 0, 2], [2, 2, 2, 2]]), clips).tolist() == [1.0, 0.0]
    assert spread(clips) == 2 and spread(np.zeros((3, 4))) == 0
