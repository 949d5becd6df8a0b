"""The objects of a film as blobs: where each lies in each frame, how large, in what colour, in what outline.

Objects are connected pixels far from the background, cut again at half of their own contrast, so that a faint smear
neither joins two objects nor counts as one. What a pixel is covered by follows from where its colour lies on the line
from background to object: a blurred edge keeps its area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

SPECK = 25  #: pixels of a 128-pixel frame below which a blob is no object
FAINT = 16.0  #: CIELAB distance from the background below which a pixel belongs to it
CONTRAST = 26.0  #: CIELAB distance an object must reach (the weakest pair of words, purple on blue, has 38)

_GRID = 32  # side of a normalised patch
_REACH = 2.0  # half its side, in radii of the disc of equal area


@dataclass(frozen=True)
class Blob:
    """One object in one frame: centre (x, y) and area in pixels, CIELAB colour (3,), coverage as a `patch`.

    `cut` tells that it touches the edge of the frame, where its outline cannot be trusted.
    """

    frame: int
    x: float
    y: float
    area: float
    lab: np.ndarray
    patch: np.ndarray
    cut: bool


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 to CIELAB (..., 3) under D65 (CIE 15:2004)."""
    c = np.asarray(rgb, np.float32) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]], np.float32)
    xyz = linear @ matrix / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@cache
def _lab_table() -> np.ndarray:
    """CIELAB of every sRGB colour at 6 bits a channel, (64 * 64 * 64, 3): cube roots of whole films are slow."""
    levels = np.arange(64) * 4 + 1.5
    return lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)).astype(np.float32)


def label(mask: np.ndarray) -> np.ndarray:
    """Number the 4-connected parts of a mask (frames, h, w): int32, 0 outside, parts never span frames."""
    frames, height, width = mask.shape
    padded = np.zeros((frames, height + 1, width + 1), bool)  # an empty row and column part the frames and the rows
    padded[:, :height, :width] = mask
    flat = padded.ravel()
    steps = np.flatnonzero(np.diff(flat.view(np.int8), prepend=0, append=0))
    starts, ends = steps[::2], steps[1::2]
    parent = list(range(len(starts)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    below = width + 1
    first = np.searchsorted(ends, starts + below, side="right")
    last = np.searchsorted(starts, ends + below, side="left")
    for run in np.flatnonzero(last > first).tolist():
        for other in range(first[run], last[run]):
            a, b = root(run), root(other)
            parent[max(a, b)] = min(a, b)
    roots = np.array([root(run) for run in range(len(starts))], np.int64)
    names = np.unique(roots, return_inverse=True)[1].astype(np.int32) + 1
    labels = np.zeros(flat.size, np.int32)
    labels[flat] = np.repeat(names, ends - starts)
    return labels.reshape(padded.shape)[:, :height, :width]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over 3x3 of (frames, h, w)."""
    p = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = p[:, :-2] + p[:, 1:-1] + p[:, 2:]
    return np.asarray((rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9)


def _wider(mask: np.ndarray) -> np.ndarray:
    """A mask (h, w) grown by two pixels to each side."""
    p = np.pad(mask, 2)
    h, w = mask.shape
    rows = np.logical_or.reduce([p[k : k + h] for k in range(5)])
    return np.asarray(np.logical_or.reduce([rows[:, k : k + w] for k in range(5)]))


def normalise(alpha: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Centre x, y and area of a coverage (h, w), and the coverage at one size: (_GRID * _GRID,), mean 0, norm 1."""
    height, width = alpha.shape
    area = max(float(alpha.sum()), 1e-6)
    x = float(alpha.sum(0) @ np.arange(width)) / area
    y = float(alpha.sum(1) @ np.arange(height)) / area
    ticks = (np.arange(_GRID) + 0.5) / _GRID * 2 * _REACH - _REACH
    ticks = ticks * math.sqrt(area / math.pi)
    padded = np.pad(alpha, 1)

    def axis(centre: float, size: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip(centre + ticks, -1, size) + 1
        whole = np.minimum(place.astype(np.int64), size)
        return whole, (place - whole).astype(np.float32)

    col, right = axis(x, width)
    row, down = axis(y, height)
    top, bottom = padded[row], padded[row + 1]
    lines = top + (bottom - top) * down[:, None]
    flat = (lines[:, col] + (lines[:, col + 1] - lines[:, col]) * right).ravel()
    flat = flat - flat.mean()
    return x, y, area, flat / max(float(np.linalg.norm(flat)), 1e-6)


def ground_colour(frames: np.ndarray) -> np.ndarray:
    """Median sRGB of the outer 6 pixels of each frame of a film (frames, h, w, 3): (frames, 3)."""
    edge = [frames[:, :6], frames[:, -6:], frames[:, 6:-6, :6], frames[:, 6:-6, -6:]]
    return np.asarray(np.median(np.concatenate([e.reshape(len(frames), -1, 3) for e in edge], 1), 1))


def _measure(
    frames: np.ndarray, ground: np.ndarray, labels: np.ndarray, distance: np.ndarray, where: np.ndarray
) -> Blob:
    """The blob whose pixels have the flat indices `where` in the maps `labels` and `distance` (frames, h, w)."""
    _, height, width = labels.shape
    frame, rows, cols = np.unravel_index(where, labels.shape)
    f = int(frame[0])
    near = distance.ravel()[where]
    core = frames[f, rows, cols][near >= np.quantile(near, 0.6)]
    colour = np.median(core, 0)
    top, left = max(int(rows.min()) - 3, 0), max(int(cols.min()) - 3, 0)
    box = (f, slice(top, int(rows.max()) + 4), slice(left, int(cols.max()) + 4))
    axis = (colour - ground[f]).astype(np.float32)
    alpha = (frames[box] - ground[f].astype(np.float32)) @ (axis / max(float(axis @ axis), 1.0))
    alpha = np.clip(alpha, 0, 1) * _wider(labels[box] == labels.ravel()[where[0]])
    alpha[alpha < 0.15] = 0
    x, y, area, patch = normalise(alpha)
    cut = bool(rows.min() <= 0 or cols.min() <= 0 or rows.max() >= height - 1 or cols.max() >= width - 1)
    return Blob(f, left + x, top + y, area, lab(colour), patch, cut)


def _parts(labels: np.ndarray) -> list[np.ndarray]:
    """Flat indices of the pixels of each labelled part that is no speck."""
    inside = np.flatnonzero(labels)
    inside = inside[np.argsort(labels.ravel()[inside], kind="stable")]
    parts = np.split(inside, np.flatnonzero(np.diff(labels.ravel()[inside])) + 1)
    return [part for part in parts if len(part) >= SPECK]


def find(frames: np.ndarray, ground: np.ndarray) -> list[Blob]:
    """Every object of a film (frames, h, w, 3) uint8 over its ground (frames, 3), in the order of the frames."""
    index = frames.astype(np.int32) >> 2
    pixels = _lab_table()[(index[..., 0] << 12) | (index[..., 1] << 6) | index[..., 2]]
    away = pixels - lab(ground).astype(np.float32)[:, None, None]
    distance = _smooth(np.sqrt(np.einsum("fhwc,fhwc->fhw", away, away)))
    whole = label(distance > FAINT)
    half = np.full(int(whole.max()) + 1, np.inf, np.float32)
    for part in _parts(whole):
        peak = np.quantile(distance.ravel()[part], 0.95)
        half[whole.ravel()[part[0]]] = 0.5 * peak if peak >= CONTRAST else np.inf
    labels = label(distance > half[whole])
    blobs = [_measure(frames, ground, labels, distance, part) for part in _parts(labels)]
    return [blob for blob in blobs if blob.area >= SPECK]


def of_film(frames: np.ndarray) -> tuple[np.ndarray, tuple[Blob, ...]]:
    """The ground of a film (frames, h, w, 3) uint8, as `ground_colour` finds it, and its objects, as `find` does.

    The answer for the last film is kept, because several scores read the same one. Its arrays are read-only.
    """
    return _of_film(frames.tobytes(), frames.shape, frames.dtype.str)


@lru_cache(maxsize=1)
def _of_film(pixels: bytes, shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, tuple[Blob, ...]]:
    frames = np.frombuffer(pixels, dtype).reshape(shape)
    ground = ground_colour(frames)
    blobs = tuple(find(frames, ground))
    for array in (ground, *(array for blob in blobs for array in (blob.lab, blob.patch))):
        array.flags.writeable = False
    return ground, blobs
