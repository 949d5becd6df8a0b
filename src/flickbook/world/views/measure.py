"""What the readers of the views measure, and every threshold they use.

Films are (16, 128, 128, 3) uint8 or float32 in 0..255. All measures are of areas of many pixels or of products between
neighbouring pixels, so that soft edges and a little noise do not move them. A word that the picture gives no evidence
for is read as "none".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flickbook.world.views.canvas import FRAMES, Colour

NONE = "none"

#: Least travel, in pixels over the film, of something that is read as moving.
LEAST_TRAVEL = 14.0
#: Squared distance between chromaticities past which a colour has no word.
STRANGE = 0.022
#: Sunrise: least light of a band over what is above and below it that counts as a cloud, and least slope of the light
#: down the mountains (a pixel) that counts as mist: without mist they darken towards their feet.
CLOUD, MIST = 20.0, -0.15
#: Night: share of its bounding box that a full moon fills.
FULL_MOON = 0.62
#: Night: how many times better the stars match themselves one way than the other.
STREAKS = 1.3
#: City: least fluctuation (luminance) below the vehicles that counts as rain or snow; it is rain if it is more alike
#: along a streak than across one by this share of its power.
FALLING, STREAKED = 3.0, 0.4
#: Shapes: least swing of the centre (pixels), of the area (share of the mean), and of the empty share of the places.
BOUNCE, PULSE, ROUND = 5.0, 0.2, 0.45
#: Shapes: least change of the outline from frame to frame, as a share of the area, that counts as dancing at all.
STILL = 0.06
#: Shapes: shares of warm hues below and above which the colours are cool or warm.
COOL, WARM = 0.2, 0.8

#: Recognising a view, in the units of `recognise.features`. A landscape differs from itself upside down by more than
#: UPRIGHT and has a sky darker at the top than at the sides by more than RIM; shapes come in PARTS frames or more.
UPRIGHT, RIM, PARTS = 6.0, 30.0, 7.0
#: A thing differs from the ground by APART in some channel and has SPECK pixels or more of a frame of 64 by 64.
APART, SPECK = 75.0, 40
STREET, WINDOWS, SAND, WAVES, MOON, DAWN = 22.0, 9.0, 45.0, 4.5, 115.0, 0.1


def luminance(picture: np.ndarray) -> np.ndarray:
    """Rec. 601 luma (...) float32 of a picture (..., 3)."""
    return np.asarray(picture, np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)


def box(values: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Mean of `values` (..., h, w) over an odd window; edges repeat."""
    for axis, size in ((-2, high), (-1, wide)):
        if size > 1:
            pad = [(0, 0)] * values.ndim
            pad[axis] = (size // 2 + 1, size // 2)
            total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis, dtype=np.float64)
            ahead = np.take(total, np.arange(size, total.shape[axis]), axis)
            values = ((ahead - np.take(total, np.arange(total.shape[axis] - size), axis)) / size).astype(np.float32)
    return values


def still(film: np.ndarray) -> np.ndarray:
    """What stays: the median over time (128, 128, 3) float32."""
    middle = np.partition(film, (FRAMES // 2 - 1, FRAMES // 2), axis=0)[FRAMES // 2 - 1 : FRAMES // 2 + 1]
    return np.asarray(middle.mean(0, dtype=np.float32))


def hue(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hue in degrees 0..360 and chroma (largest minus smallest channel) of colours (..., 3)."""
    red, green, blue = (np.asarray(colours[..., k], np.float32) for k in range(3))
    angle = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360
    return angle, np.max(colours, -1).astype(np.float32) - np.min(colours, -1)


def nearest(colour: np.ndarray, words: Mapping[str, Colour]) -> str:
    """The word whose paint has the chromaticity (share of each channel) closest to `colour` (3,), or "none"."""

    def shares(paint: np.ndarray) -> np.ndarray:
        return np.asarray(paint / (paint.sum() + 30))

    target = shares(np.asarray(colour, np.float64))
    away = {word: float(np.sum((shares(np.asarray(paint, np.float64)) - target) ** 2)) for word, paint in words.items()}
    best = min(away, key=lambda word: away[word])
    return best if away[best] < STRANGE else NONE


def nearest_hue(angles: np.ndarray, weights: np.ndarray, words: Mapping[str, Colour]) -> str:
    """The word most pixels vote for: each of `angles` (n,) in degrees votes for the closest paint by its weight."""
    if not float(weights.sum()) > 0:
        return NONE
    paints = np.array([hue(np.asarray(paint, np.float32))[0] for paint in words.values()])
    away = np.abs((angles[:, None] - paints + 180) % 360 - 180)
    votes = np.bincount(np.argmin(away, 1), weights, len(words))
    return tuple(words)[int(np.argmax(votes))]


def travel(weights: np.ndarray, axis: int) -> float:
    """Pixels that the centre of `weights` (16, h, w) moves along an image axis (0 down, 1 right) during the film.

    A least-squares line through the centres, each counted by its frame's total weight.
    """
    rows = weights.sum(2 - axis)
    total = rows.sum(1) + 1e-9
    centre = rows @ np.arange(rows.shape[1]) / total
    time = np.arange(FRAMES) - float((total * np.arange(FRAMES)).sum() / total.sum())
    slope = float((total * time * centre).sum() / (total * time * time).sum())
    return slope * (FRAMES - 1)


def strong(change: np.ndarray, share: float) -> np.ndarray:
    """`change` (16, h, w) where it exceeds `share` of its 99.5th percentile, else zero."""
    return np.where(change > share * np.percentile(change, 99.5), change, np.float32(0))


def side(pixels: float) -> str:
    """ "left", "right" or "none" for a signed horizontal travel."""
    if abs(pixels) < LEAST_TRAVEL:
        return NONE
    return "right" if pixels > 0 else "left"
