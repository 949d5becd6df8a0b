"""Places off the land: space and under water."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from flickbook.world.book import sky
from flickbook.world.book.land import hill
from flickbook.world.book.pen import Colour, Pen, mix
from flickbook.world.book.pose import TURN
from flickbook.world.book.sky import of_land

#: Top, middle and bottom of the water.
_WATER: dict[str, tuple[Colour, Colour, Colour]] = {
    "day": ((150, 232, 240), (44, 168, 214), (16, 96, 168)),
    "sunset": ((255, 184, 130), (176, 96, 140), (76, 46, 116)),
    "night": ((52, 92, 160), (26, 54, 122), (12, 26, 78)),
}
#: The same for the void.
_VOID: dict[str, tuple[Colour, Colour, Colour]] = {
    "day": ((34, 26, 84), (58, 44, 130), (92, 78, 176)),
    "sunset": ((40, 14, 58), (112, 34, 92), (222, 88, 74)),
    "night": ((6, 6, 20), (10, 12, 38), (22, 24, 64)),
}


def space(light: str, rng: np.random.Generator) -> Image.Image:
    """Stars, a ringed planet and the ground of a moon with craters."""
    top, middle, bottom = _VOID[light]
    sheet = sky.gradient((0, top), (28, middle), (52, bottom))
    pen, glow = Pen(of_land(light)), Pen(sky.plain)
    x = float(rng.uniform(9, 16)) + (34 if rng.uniform() < 0.5 else 0)
    if light == "sunset":
        sun = 64 - x
        for radius, share in ((13.0, 0.4), (10.0, 0.7)):
            glow.disc(sun, 46, radius, mix(bottom, (255, 190, 90), share))
        glow.disc(sun, 46, 7.0, (255, 232, 150))
    elif light == "day":
        glow.disc(64 - x, 9, 6.0, (190, 160, 190))
        glow.disc(64 - x, 9, 4.2, (255, 240, 170))
    bright = 0.35 if light == "night" else 0.0
    ring, ball = mix((236, 196, 130), (40, 30, 80), bright), mix((236, 128, 84), (40, 30, 80), bright)
    y = float(rng.uniform(11, 15))
    glow.limb([(x - 9.4, y + 3.0), (x + 9.4, y - 3.0)], 1.6, ring)
    glow.disc(x, y, 5.8, ball)
    glow.limb([(x - 4.6, y - 1.6), (x + 4.4, y - 2.4)], 1.6, mix(ball, ring, 0.6))
    glow.limb([(x - 8.4, y + 3.4), (x + 5.0, y + 0.4), (x + 9.0, y - 2.6)], 1.2, ring)
    glow.stamp(sheet)
    ground: Colour = (184, 182, 200)
    hill(pen, 46, 1.8, float(rng.uniform()), (140, 138, 164))
    hill(pen, 50, 0.9, float(rng.uniform()), ground)
    for k in range(4):
        cx, cy = 6 + 17 * k + 6 * float(rng.uniform()), 54 + 7 * float(rng.uniform())
        pen.oval(cx, cy, 4.0, 1.5, (146, 144, 166))
        pen.oval(cx + 0.5, cy + 0.5, 3.2, 0.9, (116, 114, 140))
    pen.stamp(sheet)
    return sheet


def space_moves(pen: Pen, time: float, shift: float) -> None:
    """Stars that twinkle."""
    for k in range(22):
        x, y = (k * 0.7549 + shift) % 1.0 * 64, (k * 0.5698 + 0.7 * shift) % 1.0 * 43
        size = 0.5 + 0.35 * math.sin(TURN * (2 * time + k / 5))
        pen.disc(x, y, max(0.3, size), (246, 244, 255))


def underwater(light: str, rng: np.random.Generator) -> Image.Image:
    """Water with rays of light over sand, corals and stones."""
    top, middle, bottom = _WATER[light]
    sheet = sky.gradient((0, top), (24, middle), (56, bottom))
    rays = Pen(sky.plain)
    for k in range(3):
        x = 6 + 22 * k + 6 * float(rng.uniform())
        ray = mix(middle, top, 0.45)
        rays.outline([(x, -1), (x + 5, -1), (x - 2, 34), (x - 9, 34)], ray)
    rays.stamp(sheet)
    soft = gradient_over(sheet, light)
    pen = Pen(of_land(light))
    hill(pen, 50, 1.4, float(rng.uniform()), mix((226, 208, 150), bottom, 0.4))
    side = 1 if rng.uniform() < 0.5 else -1
    coral = pen.at(32 + side * float(rng.uniform(20, 25)), 55)
    for dx, dy in ((-4.6, -7), (0, -11), (4.8, -8)):
        coral.limb([(0, 0), (dx * 0.7, dy * 0.5), (dx, dy)], 2.5, (246, 92, 112))
    pen.oval(32 - side * float(rng.uniform(15, 22)), 54.5, 5.4, 3.6, (116, 112, 140))
    hill(pen, 55, 1.0, float(rng.uniform()), (240, 214, 150))
    hill(pen, 60, 1.0, 0.4, (222, 190, 126))
    pen.stamp(soft)
    return soft


def gradient_over(sheet: Image.Image, light: str) -> Image.Image:
    """The sheet with the water's own gradient half over it, so that rays are soft."""
    top, middle, bottom = _WATER[light]
    return Image.blend(sheet, sky.gradient((0, top), (24, middle), (56, bottom)), 0.35)


def underwater_moves(pen: Pen, time: float, shift: float) -> None:
    """Weeds that sway and bubbles that rise."""
    for k, x in enumerate((3.0, 9.0, 57.0, 62.0)):
        points = []
        for step in range(6):
            bend = 0.45 * step * math.sin(TURN * (time + shift + k / 4) + 0.8 * step)
            points.append((x + bend, 58 - (3.6 + 0.6 * (k % 2)) * step))
        pen.limb(points, 2.0, (40, 160, 100) if k % 2 else (86, 178, 84))
    for k in range(7):
        y = (60 - 34 * time - 9.7 * k - 40 * shift) % 62
        x = (9 + 23.7 * k + 30 * shift) % 62 + 1.2 * math.sin(TURN * (time * 1.5 + k / 3))
        radius = 0.9 + 0.5 * (k % 3)
        pen.disc(x, y, radius, (196, 236, 250))
        pen.disc(x + 0.1, y + 0.1, radius * 0.55, (120, 200, 232))
