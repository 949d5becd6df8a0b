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

from flickbook.world.agreement import expectation
from flickbook.world.blobs import Blob, of_film
from flickbook.world.detect import fitted, tracks
from flickbook.world.scenes import FPS, FRAMES, OBJECTS

#: Circles, points on each, and harmonics kept of each.
_CIRCLES, _POINTS, _HARMONICS = 8, 48, 9
#: Changes at which a frame's share of the score is halved: of the outline (distance of unit vectors), of the colour
#: (CIELAB), and of the size (logarithm of the radius).
_OUTLINE, _COLOUR, _SIZE = 0.25, 12.0, 0.12


def steadiness(frames: np.ndarray) -> float | None:
    """0 to 1 for a film (n, 128, 128, 3) uint8 of objects on a plain background, 1 where nothing wobbles.

    A frame in which an object is missing counts 0 for that object. None where no object is in half of the frames, or
    none is seen whole in two frames that follow each other.
    """
    found = tracks(of_film(frames)[1], len(frames))
    scores = [score for track in found if (score := _of_track(track)) is not None]
    return float(np.mean(scores)) if scores else None


def steadiness_of(prompt: str, frames: np.ndarray, fps: float) -> float | None:
    """The steadiness of a film (n, height, width, 3) uint8 of any size and rate, 0 where no object is found.

    It is read at about the world's 8 frames a second, in stretches of 16 frames, and the mean counts. None if the
    prompt is not one of objects that the detector can read (`agreement.expectation`), or for fewer than two frames.
    """
    asked = expectation(prompt)
    film = frames[:: max(1, round(fps / FPS))]
    if asked is None or asked.scene.kind not in OBJECTS or len(film) < 2:
        return None
    parts = [film[start : start + FRAMES] for start in range(0, len(film), FRAMES)]
    whole = [part for part in parts if len(part) == FRAMES] or parts
    return float(np.mean([steadiness(fitted(part)) or 0.0 for part in whole]))


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
