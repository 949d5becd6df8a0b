"""Faults planted into films (n, h, w, 3) uint8, each as `fault(film, rng) -> film`. Half of a film's length is HALF."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Fault = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def levels(film: np.ndarray) -> np.ndarray:
    """Whatever numbers came out, as uint8."""
    return np.asarray(np.clip(np.round(film), 0, 255), np.uint8)


def gain_flicker(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every frame brighter or darker than it should be; standard deviation 4 %."""
    return levels(film * (1 + 0.04 * rng.standard_normal((len(film), 1, 1, 1))))


def local_flicker(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the width by a quarter of the height, anywhere, brightness off by 8 levels (standard deviation)."""
    n, height, width, _ = film.shape
    top, left = int(rng.integers(height * 3 // 4 + 1)), int(rng.integers(width * 3 // 4 + 1))
    changed = film.astype(np.float64)
    changed[:, top : top + height // 4, left : left + width // 4] += 8 * rng.standard_normal((n, 1, 1, 1))
    return levels(changed)


def drift(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Red rises by 8 % over the film and blue falls by as much."""
    ramp = 0.08 * np.linspace(0, 1, len(film))
    return levels(film * (1 + ramp[:, None] * np.array([1, 0, -1]))[:, None, None, :])


def blur(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, sigma 1.2 pixels."""
    return np.stack([np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.2))) for frame in film])


def frozen(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three frames somewhere show what the frame before them showed."""
    start = int(rng.integers(0, len(film) - 3))
    order = np.arange(len(film))
    order[start : start + 4] = start
    return film[order]


def black_frame(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One frame is black."""
    changed = film.copy()
    changed[int(rng.integers(len(film)))] = 0
    return changed


def noise_frame(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One frame is nothing but noise."""
    changed = film.copy()
    changed[int(rng.integers(len(film)))] = rng.integers(0, 256, film.shape[1:], dtype=np.uint8)
    return changed


def grain(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of 6 levels over every frame."""
    return levels(film + 6 * rng.standard_normal(film.shape))


def shift_seam(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From the middle of the film on the picture stands 4 pixels to the right or left."""
    side = 4 if rng.random() < 0.5 else -4
    changed = film.copy()
    changed[len(film) // 2 :] = np.roll(film[len(film) // 2 :], side, axis=2)
    return changed


def tone_seam(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From the middle of the film on it is 6 levels brighter or darker."""
    changed = film.astype(np.float64)
    changed[len(film) // 2 :] += 6 if rng.random() < 0.5 else -6
    return levels(changed)


def jerky(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every third frame is missing, so that every second step is twice as long."""
    return film[np.arange(len(film)) % 3 != 2]


def swapped(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two pairs of neighbours have changed places, one in each half."""
    order = np.arange(len(film))
    for begin, end in ((0, len(film) // 2), (len(film) // 2, len(film))):
        first = int(rng.integers(begin, end - 1))
        order[[first, first + 1]] = order[[first + 1, first]]
    return film[order]


def shuffled(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frames in any other order."""
    return film[rng.permutation(len(film))]


def slowed(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half the speed, over half of the story: every frame and the mean of it and the next."""
    half = film[: (len(film) + 1) // 2].astype(np.float64)
    between = (half + film[1 : len(half) + 1]) / 2
    return levels(np.stack([half, between], 1).reshape(-1, *film.shape[1:])[: len(film)])


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        gain_flicker,
        local_flicker,
        drift,
        blur,
        frozen,
        black_frame,
        noise_frame,
        grain,
        shift_seam,
        tone_seam,
        jerky,
        swapped,
        shuffled,
        slowed,
    )
}
