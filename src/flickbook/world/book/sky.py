"""The sky: three lights that colour the land and what stands on it, sun and moon, stars and clouds."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image

from flickbook.world.book.pen import OVER, SIZE, Colour, Paint, Pen, mix

Factors = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """`sky` is zenith, middle and horizon; `land` and `actor` multiply colours; `ink` is the colour of rims.

    `haze` is a colour that covers a quarter of the land, so that all of it belongs to the same hour; None leaves it.
    """

    sky: tuple[Colour, Colour, Colour]
    land: Factors
    actor: Factors
    cloud: Colour
    ink: Colour
    haze: Colour | None = None


LIGHTS: dict[str, Light] = {
    "day": Light(
        ((72, 168, 246), (132, 204, 252), (206, 238, 255)),
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (255, 255, 255),
        (46, 38, 52),
    ),
    "sunset": Light(
        ((98, 58, 142), (238, 104, 100), (255, 196, 98)),
        (0.86, 0.60, 0.60),
        (1.0, 0.91, 0.84),
        (255, 158, 128),
        (56, 26, 50),
    ),
    "night": Light(
        ((10, 14, 52), (22, 32, 88), (52, 66, 136)),
        (0.40, 0.46, 0.66),
        (0.90, 0.94, 1.0),
        (62, 74, 134),
        (8, 10, 30),
        (30, 44, 112),
    ),
}


def of_land(light: str) -> Paint:
    """The paint of the land in a light."""
    return tint(LIGHTS[light].land, haze=LIGHTS[light].haze)


def tint(factors: Factors, hue: float = 0.0, haze: Colour | None = None) -> Paint:
    """A function that turns a colour by `hue` (turns of the colour wheel), multiplies it by `factors` and adds haze."""
    known: dict[Colour, Colour] = {}

    def paint(colour: Colour) -> Colour:
        if colour not in known:
            h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
            turned = colorsys.hsv_to_rgb((h + hue) % 1.0, s, v)
            r, g, b = (min(255, round(255 * c * f)) for c, f in zip(turned, factors, strict=True))
            known[colour] = (r, g, b) if haze is None else mix((r, g, b), haze, 0.25)
        return known[colour]

    return paint


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


def heaven(
    light: str, horizon: float, rng: np.random.Generator, low: float | None = None, x: float | None = None
) -> Image.Image:
    """The sky above `horizon` with sun or moon.

    `low` is the height of the setting sun, else just above the horizon; `x` is where it sets, else anywhere.
    """
    top, middle, bottom = LIGHTS[light].sky
    sheet = gradient((0, top), (horizon * 0.55, middle), (horizon, bottom))
    pen = Pen(plain)
    x = float(rng.uniform(12, 52)) if x is None else x
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
