"""Similarity of two images (PSNR, SSIM) and temporal coherence of a film. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.write import check_frames

_REACH = 5  # pixels on either side of the centre: windows of 11 x 11
_SPREAD = 1.5  # pixels: standard deviation of the Gaussian window
#: (K L)^2 with K = 0.01 and 0.03 and L = 255 levels: avoids division by zero in flat regions.
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two uint8 arrays of equal shape, in dB; infinite for equal arrays.

    It covers all frames and channels together. Raises RequestError for different shapes.
    """
    if a.shape != b.shape:
        raise RequestError("frames", b.shape, "must have one size", f"make both {a.shape}")
    # One frame at a time: the difference of whole films would take eight times their memory.
    error = sum(float(np.square(x.astype(np.float32) - y).sum(dtype=np.float64)) for x, y in zip(a, b, strict=True))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 * a.size / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity of two images (height, width, 3) uint8: 1 for equal images, at least -1.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    with its constants and its Gaussian window of 11 x 11 pixels, or smaller on smaller images. The mean over red, green
    and blue also detects a change of colour at equal grey. Raises RequestError for other arrays or different sizes.
    """
    check_frames(np.asarray(a)[None])
    check_frames(np.asarray(b)[None])
    if a.shape != b.shape:
        raise RequestError("frames", b.shape, "must have one size", f"make both {a.shape[1]}x{a.shape[0]}")
    reach = min(_REACH, (min(a.shape[:2]) - 1) // 2)
    window = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _SPREAD**2))
    window /= window.sum()
    values = []
    for channel in range(3):  # one channel at a time, because the windows are held in float64
        x, y = a[..., channel].astype(np.float64), b[..., channel].astype(np.float64)
        mean_x, mean_y = _weighed(x, window), _weighed(y, window)
        spread = _weighed(x * x, window) - mean_x**2 + _weighed(y * y, window) - mean_y**2
        shared = _weighed(x * y, window) - mean_x * mean_y
        likeness = (2 * mean_x * mean_y + _C1) * (2 * shared + _C2)
        values.append((likeness / ((mean_x**2 + mean_y**2 + _C1) * (spread + _C2))).mean())
    return float(np.mean(values))


def _weighed(x: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the weighted mean (h - n + 1, w - n + 1) at each place of x (h, w) under a separable window (n,)."""
    across = sum(weight * x[:, place : x.shape[1] - len(window) + 1 + place] for place, weight in enumerate(window))
    rows = len(x) - len(window) + 1
    return np.asarray(sum(weight * across[place : rows + place] for place, weight in enumerate(window)))


def likeness(frames: Iterable[np.ndarray]) -> list[float]:
    """Return the SSIM of each frame and the next: one number fewer than frames."""
    return [ssim(a, b) for a, b in pairwise(frames)]


def coherence(frames: Iterable[np.ndarray]) -> float:
    """Return the mean SSIM of neighbouring frames (height, width, 3) uint8: 1 for a still film, less with more change.

    Raises RequestError for fewer than two frames.
    """
    found = likeness(frames)
    if not found:
        raise RequestError("frames", 1, "must be two or more", "a single picture has no neighbour")
    return float(np.mean(found))
