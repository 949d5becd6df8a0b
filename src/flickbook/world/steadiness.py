"""Steadiness: how little the objects of a film change their outline, colour and size from frame to frame.

A generated object that wobbles is what the eye sees first, even where every word of the prompt is right. The score
reads objects as the judge does (`detect.tracks`) and needs no prompt. The description of an outline does not change
when the outline turns: its coverage on circles around its centre, and of each circle the strength of the first
harmonics. Growing and shrinking cost nothing, because a size is compared with the mean of the sizes before and after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flickbook.world.blobs import FAINT, Blob, find, ground_colour, lab
from flickbook.world.detect import fitted, tracks

#: Circles, points on each, and harmonics kept of each.
_CIRCLES, _POINTS, _HARMONICS = 8, 48, 9
#: Changes at which a frame's share of the score is halved: of the outline (distance of unit vectors), of the colour
#: (CIELAB), and of the size (logarithm of the radius).
_OUTLINE, _COLOUR, _SIZE = 0.25, 12.0, 0.12
#: Share of each frame that must have the colour of its border for the background to be plain. True films of objects
#: have 0.76 or more, pages of the picture book 0.74 or less.
_PLAIN = 0.75


def steadiness(frames: np.ndarray) -> float | None:
    """0 to 1 for a film (n, 128, 128, 3) uint8 of objects on a plain background, 1 where nothing wobbles.

    A frame in which an object is missing counts 0 for that object. None where no object is in half of the frames, or
    none is seen whole in two frames that follow each other.
    """
    found = tracks(find(frames, ground_colour(frames)), len(frames))
    scores = [score for track in found if (score := _of_track(track)) is not None]
    return float(np.mean(scores)) if scores else None


def steadiness_if_plain(frames: np.ndarray) -> float | None:
    """The steadiness of a film (n, height, width, 3) uint8 of any size, of which at most 16 frames are read.

    None if the background of a frame is not plain, or if no object is found as in `steadiness`.
    """
    film = fitted(frames)
    away = lab(film) - lab(ground_colour(film))[:, None, None]
    plain = (np.linalg.norm(away, axis=-1) < FAINT).mean((1, 2))
    return steadiness(film) if plain.min() >= _PLAIN else None


def _of_track(track: Sequence[Blob]) -> float | None:
    """The mean over the frames from the track's first to its last, without those cut off by the frame's edge."""
    by_frame = {blob.frame: blob for blob in track}
    shares = []
    for frame in range(track[0].frame + 1, track[-1].frame + 1):
        before, here, after = (by_frame.get(frame + step) for step in (-1, 0, 1))
        if here is None:
            shares.append(0.0)
        elif before is not None and not (before.cut or here.cut):
            shares.append(0.5 ** _change(before, here, None if after is None or after.cut else after))
    return float(np.mean(shares)) if shares else None


def _change(before: Blob, here: Blob, after: Blob | None) -> float:
    """The change from one frame to the next in units of half a share."""
    outline = float(np.linalg.norm(_described(here) - _described(before)))
    colour = float(np.linalg.norm(here.lab - before.lab))
    size = 0.0
    if after is not None:
        size = abs(math.log(here.area) - 0.5 * (math.log(before.area) + math.log(after.area))) / 2
    return outline / _OUTLINE + colour / _COLOUR + size / _SIZE


def _described(blob: Blob) -> np.ndarray:
    """An outline without its angle: (circles * harmonics,), norm 1."""
    side = math.isqrt(len(blob.patch))
    patch = blob.patch.reshape(side, side)
    radius = (np.arange(_CIRCLES) + 0.5) / _CIRCLES * (side / 2 - 1)
    angle = np.arange(_POINTS) / _POINTS * 2 * np.pi
    x = side / 2 - 0.5 + radius[:, None] * np.cos(angle)
    y = side / 2 - 0.5 + radius[:, None] * np.sin(angle)
    col, row = x.astype(int), y.astype(int)
    right, down = x - col, y - row
    circles = (patch[row, col] * (1 - right) + patch[row, col + 1] * right) * (1 - down)
    circles += (patch[row + 1, col] * (1 - right) + patch[row + 1, col + 1] * right) * down
    strength = np.abs(np.fft.rfft(circles, axis=1))[:, :_HARMONICS] * np.sqrt(radius)[:, None]
    return np.asarray((strength / max(float(np.linalg.norm(strength)), 1e-6)).ravel())
