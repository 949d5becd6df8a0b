"""Which view a film shows, told by its layout and not by its colours."""

from __future__ import annotations

import numpy as np

from flickbook.world.blobs import label
from flickbook.world.views import measure
from flickbook.world.views.canvas import FRAMES


def recognise(frames: np.ndarray) -> str:
    """The name of the view that a film (16, 128, 128, 3) shows, or "none"; thresholds are in `measure`."""
    found = features(frames)
    if found["street"] > measure.STREET and found["windows"] > measure.WINDOWS:
        return "city"
    if found["sand"] > measure.SAND and found["upright"] > measure.UPRIGHT:
        return "reef"
    if found["rim"] < measure.RIM:
        return "shapes" if found["parts"] >= measure.PARTS else measure.NONE
    if found["upright"] < measure.UPRIGHT:
        return measure.NONE
    if found["waves"] > measure.WAVES:
        return "sea"
    if found["moon"] > measure.MOON:
        return "night"
    return "sunrise" if found["dawn"] > measure.DAWN else measure.NONE


def features(frames: np.ndarray) -> dict[str, float]:
    """The numbers `recognise` decides by, from a film (16, 128, 128, 3); luminance and colour in 0..255.

    upright: how much the picture differs from itself upside down (a landscape does, an object on a ground does not).
    parts: frames that show three or more separate things. windows: fine detail at the height of the buildings.
    street: how much brighter the street is than what stands on it. sand: how bright and warm the bottom is.
    rim: how much the sides differ from the top (a sky does, a plain ground does not). dawn: change of the sky's light
    over the film as a share. waves: what moves in the lowest quarter. moon: light of the brightest still thing over
    the sky's.
    """
    calm = measure.still(frames)
    light = measure.luminance(calm)
    profile = np.median(calm, axis=1)
    upright = float(np.abs(profile - profile[::-1])[4:60].max(-1).mean())
    sides = np.concatenate([calm[50:70, :6], calm[50:70, -6:]], 1).reshape(-1, 3)
    rim = float(np.abs(np.median(sides, axis=0) - np.median(calm[:6].reshape(-1, 3), axis=0)).max())
    detail = np.abs(measure.box(light, 3, 3) - measure.box(light, 13, 13))
    street = float(np.median(light[110:115]) - np.median(light[98:105]))
    bottom = profile[122:127].mean(0)
    film = measure.luminance(frames)
    sky = np.median(film[:, :40], axis=(1, 2))
    slope = float(np.polyfit(np.arange(FRAMES), sky, 1)[0]) * (FRAMES - 1)
    low = (film - light)[:, 90:]
    low = low - low.mean((1, 2), keepdims=True)  # a flicker of the whole frame is not a wave
    waves = max(float((low[:, 2:] * low[:, :-2]).mean()), float((low[:, :, 2:] * low[:, :, :-2]).mean()), 0.0) ** 0.5
    upper = measure.box(light[:54], 9, 9)
    return {
        "upright": upright,
        "rim": rim,
        "parts": float(_parts(frames)),
        "windows": float(detail[64:104].mean()),
        "street": street,
        "sand": float(min(bottom[0] - bottom[2], bottom.mean() - 100)),
        "dawn": abs(slope) / (float(sky.mean()) + 1),
        "waves": waves,
        "moon": float(upper.max() - np.median(light[:54])),
    }


def _parts(frames: np.ndarray) -> int:
    """Frames in which three or more separate things differ from the ground at the rim; at half size, to be quick."""
    small = np.asarray(frames[:, 1::2, 1::2], np.float32)
    rim = np.median(np.concatenate([small[:, 0], small[:, -1], small[:, :, 0], small[:, :, -1]], 1), axis=1)
    labels = label(np.abs(small - rim[:, None, None]).max(-1) > measure.APART)
    return sum(int((np.bincount(frame[frame > 0]) >= measure.SPECK).sum()) >= 3 for frame in labels)
