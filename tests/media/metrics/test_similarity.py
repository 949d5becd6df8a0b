"""The structural similarity: the paper's formula, and what it says of films."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.metrics.similarity import coherence, likeness, ssim

RNG = np.random.default_rng(0)


def picture(height: int = 24, width: int = 20) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_the_book(a: np.ndarray, b: np.ndarray) -> float:
    """Equations 13 to 16 of Wang et al. 2004, window by window."""
    place = np.arange(11) - 5
    window = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            for channel in range(3):
                x, y = (each[top : top + 11, left : left + 11, channel].astype(float) for each in (a, b))
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                shared = (window * (x - mx) * (y - my)).sum()
                top_part = (2 * mx * my + 2.55**2) * (2 * shared + 7.65**2)
                found.append(top_part / ((mx**2 + my**2 + 2.55**2) * (vx + vy + 7.65**2)))
    return float(np.mean(found))


def test_ssim_equals_the_formula_of_the_paper() -> None:
    a = picture()
    for b in (picture(), np.clip(a.astype(int) + 40, 0, 255).astype(np.uint8), 255 - a, np.roll(a, 1, axis=1)):
        assert ssim(a, b) == pytest.approx(by_the_book(a, b), abs=1e-9)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_ssim_of_equal_images_is_1(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    assert ssim(a, a) == pytest.approx(1, abs=1e-9)
    assert -1 <= ssim(a, b) <= 1 + 1e-9 and ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)


def test_ssim_falls_with_noise_and_colour_changes() -> None:
    yy, xx = np.mgrid[:32, :32]
    a = np.repeat(((yy // 4 + xx // 4) % 2 * 120 + 60)[..., None], 3, axis=2).astype(np.uint8)
    noisy = [np.clip(a + RNG.normal(0, level, a.shape), 0, 255).astype(np.uint8) for level in (5, 15, 40, 90)]
    scores = [ssim(a, each) for each in noisy]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 > 0.6 > scores[-1]
    # Red and green change places: in grey there would be next to nothing to see.
    red, green = a.copy(), a.copy()
    red[..., 1] = green[..., 0] = 0
    assert ssim(red, green) < 0.5


def test_coherence_is_the_mean_ssim_of_neighbouring_frames() -> None:
    film = np.stack([picture() for _ in range(4)])
    assert likeness(film) == [ssim(a, b) for a, b in zip(film, film[1:], strict=False)]
    assert coherence(film) == pytest.approx(np.mean(likeness(film)))
    assert coherence(np.repeat(film[:1], 3, axis=0)) == pytest.approx(1)


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(RequestError, match="one size"):
        ssim(picture(), picture(24, 21))
    with pytest.raises(RequestError, match="uint8"):
        ssim(picture() / 255, picture())
    with pytest.raises(RequestError, match="two or more"):
        coherence(picture()[None])
