"""Skies: gradients, sun, moon, stars and clouds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flickbook.world.book.light import LIGHTS
from flickbook.world.book.pen import OVER, SIZE, Colour, Pen, mix


def gradient(*stops: tuple[float, Colour]) -> Image.Image:
    """A sheet that blends downwards through (y, colour) stops, y in pixels of the frame."""
    rows = (np.arange(SIZE * OVER) + 0.5) / OVER
    places = [stop[0] for stop in stops]
    column = np.stack([np.interp(rows, places, [stop[1][k] for stop in stops]) for k in range(3)], -1)
    whole = np.repeat(np.asarray(column + 0.5, np.uint8)[:, None], SIZE * OVER, axis=1)
    return Image.fromarray(whole)


def plain(colour: Colour) -> Colour:
    """The colour as it is: the paint of what shines by itself."""
    return colour


def heaven(light: str, horizon: float, rng: np.random.Generator, low: float | None = None) -> Image.Image:
    """The sky above `horizon` with sun or moon; `low` is the height of the setting sun, else just above the horizon."""
    top, middle, bottom = LIGHTS[light].sky
    sheet = gradient((0, top), (horizon * 0.55, middle), (horizon, bottom))
    pen = Pen(plain)
    x = float(rng.uniform(12, 52))
    if light == "day":
        x = x if abs(x - 32) > 12 else 10.0
        pen.disc(x, 9, 6.4, mix(middle, (255, 246, 190), 0.55))
        pen.disc(x, 9, 4.6, (255, 236, 120))
    elif light == "sunset":
        y = horizon - 4.5 if low is None else low
        for radius, share in ((15.0, 0.28), (11.0, 0.55)):
            pen.disc(x, y, radius, mix((250, 130, 96), (255, 206, 100), share))
        pen.disc(x, y, 7.4, (255, 236, 150))
    else:
        x = x if abs(x - 32) > 10 else 52.0
        for k in range(16):
            sx, sy = float(rng.uniform(1, 63)), float(rng.uniform(1, horizon * 0.8))
            pen.disc(sx, sy, 0.42 + 0.26 * (k % 3 == 0), (226, 232, 255))
        pen.disc(x, 10, 6.8, (44, 54, 112))
        pen.disc(x, 10, 5.0, (252, 246, 214))
        pen.disc(x + 2.6, 8.6, 4.2, (40, 50, 106))
    pen.stamp(sheet)
    return sheet


def clouds(pen: Pen, light: str, time: float, places: list[tuple[float, float]]) -> None:
    """Flat-bottomed clouds that drift to the right, four pixels in a film."""
    colour = LIGHTS[light].cloud
    for x, y in places:
        x = x + 4 * time
        pen.limb([(x - 4.5, y), (x + 4.5, y)], 2.6, colour)
        pen.disc(x - 1.6, y - 1.3, 2.4, colour)
        pen.disc(x + 1.8, y - 0.8, 1.9, colour)
