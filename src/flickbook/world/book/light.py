"""Three lights: how day, sunset and night colour the sky, the land and what stands on it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from flickbook.world.book.pen import Colour, Paint, mix

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
        (1.0, 0.84, 0.76),
        (255, 158, 128),
        (56, 26, 50),
    ),
    "night": Light(
        ((10, 14, 52), (22, 32, 88), (52, 66, 136)),
        (0.40, 0.46, 0.66),
        (0.80, 0.85, 1.0),
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
