"""Places on land: beach, forest, city, snow, desert and meadow, each a still sheet and what moves on it."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from flickbook.world.book import sky
from flickbook.world.book.pen import Colour, Pen, mix
from flickbook.world.book.pose import TURN
from flickbook.world.book.sky import of_land

_WHITE: Colour = (255, 255, 255)


def _pen(light: str) -> Pen:
    return Pen(of_land(light))


def hill(pen: Pen, top: float, swell: float, shift: float, colour: Colour) -> None:
    """Everything below a wavy line at height `top`; `shift` (0..1) moves its waves."""
    line = [(float(x), top - swell * math.sin(TURN * (x / 52 + shift))) for x in range(-2, 68, 3)]
    pen.outline([*line, (67.0, 66.0), (-2.0, 66.0)], colour)


def beach(light: str, rng: np.random.Generator) -> Image.Image:
    """Sand, the sea and a palm."""
    sun = float(rng.uniform(14, 50))
    sheet = sky.heaven(light, 33, rng, x=sun)
    pen = _pen(light)
    sea: Colour = (38, 150, 206)
    pen.outline([(-1, 32), (65, 32), (65, 48), (-1, 48)], sea)
    pen.outline([(-1, 39), (65, 39), (65, 48), (-1, 48)], (64, 184, 214))
    if light == "sunset":
        for k in range(5):
            y, half = 33.4 + 2.4 * k, 6.5 - 0.9 * k + 1.4 * (k % 2)
            pen.limb([(sun - half, y), (sun + half, y)], 1.1, (255, 255, 150))
    hill(pen, 45.2, 0.8, 0.3, (240, 250, 250))
    hill(pen, 46.2, 0.8, 0.3, (250, 218, 150))
    hill(pen, 57, 1.2, float(rng.uniform()), (240, 200, 126))
    side = 1 if rng.uniform() < 0.5 else -1
    palm = pen.at(32 + side * float(rng.uniform(23, 27)), 49, wide=-side)
    palm.limb([(0, 0), (1.4, -11), (4.4, -21)], 2.5, (150, 100, 58))
    for angle in (-0.5, 0.35, 1.2, 2.3, 3.1, 3.8):
        leaf = palm.at(4.4, -21.5, angle)
        leaf.curve([(0, -1), (5, -2.4), (11, 1.6), (5, 1.0), (0, 1)], (44, 156, 80))
    palm.disc(4.0, -20, 1.3, (110, 70, 44))
    shell = pen.at(32 - side * float(rng.uniform(16, 24)), 59)
    for k in range(5):
        shell.limb(
            [(0, 0), (2.2 * math.cos(k * TURN / 5 - 1.57), 2.2 * math.sin(k * TURN / 5 - 1.57))], 1.5, (244, 110, 90)
        )
    pen.stamp(sheet)
    return sheet


def beach_moves(pen: Pen, time: float, shift: float) -> None:
    """Crests that travel on the sea."""
    for k, y in enumerate((34.6, 37.4, 40.8, 43.4)):
        for n in range(3):
            x = (n * 24 + 9 * k + 6 * time + 24 * shift) % 74 - 5
            pen.limb([(x - 2.6, y), (x + 2.6, y)], 0.9, mix((64, 184, 214), _WHITE, 0.65))


def forest(light: str, rng: np.random.Generator) -> Image.Image:
    """Dark firs behind round trees and trunks, and a floor of moss."""
    sheet = sky.heaven(light, 40, rng, low=20)
    pen = _pen(light)
    start = float(rng.uniform(-6, 2))
    for k in range(9):
        x, tall = start + 8.6 * k, 26 + 5 * math.sin(2.6 * k + 5 * start)
        for part in range(3):
            top, wide = 46 - tall + part * tall * 0.22, 3.4 + 1.7 * part
            pen.outline([(x, top), (x + wide, top + tall * 0.42), (x - wide, top + tall * 0.42)], (52, 118, 92))
    hill(pen, 41.4, 0.8, 0.1, (44, 104, 62))
    for x in (float(rng.uniform(1, 7)), float(rng.uniform(55, 62))):
        pen.limb([(x, 52), (x, 20)], 4.6, (104, 70, 46))
        pen.limb([(x, 34), (x + (4 if x < 32 else -4), 29)], 1.8, (104, 70, 46))
        for dx, dy, radius in ((-5, 13, 7.2), (5, 12, 7.2), (0, 5, 8.0), (0, 15, 7.0)):
            pen.disc(x + dx, dy, radius, (36, 126, 62))
        pen.disc(x + (3 if x < 32 else -3), 8, 3.6, (62, 152, 76))
    hill(pen, 49.5, 0.9, float(rng.uniform()), (84, 146, 64))
    hill(pen, 58, 0.9, 0.6, (68, 126, 56))
    x = float(rng.uniform(8, 56))
    for right, red in ((0.0, 1.0), (4.0, 0.75)):
        pen.limb([(x + right, 61), (x + right, 58.6)], 1.4 * red, (250, 238, 220))
        pen.oval(x + right, 58, 2.4 * red, 1.6 * red, (222, 48, 46))
    pen.stamp(sheet)
    return sheet


def forest_moves(pen: Pen, time: float, shift: float) -> None:
    """Three leaves that fall."""
    for k in range(3):
        y = (time * 26 + 22 * k + 20 * shift) % 60
        x = 12 + 19 * k + 3 * math.sin(TURN * (time * 1.5 + k / 3 + shift))
        pen.oval(x, y, 1.3, 0.7, (238, 176, 56), angle=time * 5 + k)


def city(light: str, rng: np.random.Generator) -> Image.Image:
    """Houses with windows behind a street."""
    sheet = sky.heaven(light, 44, rng, low=16)
    pen, glow = _pen(light), Pen(sky.plain)
    walls: tuple[Colour, ...] = ((214, 120, 98), (120, 150, 186), (236, 196, 140), (146, 128, 176), (120, 176, 160))
    lit: Colour = {"day": (200, 232, 250), "sunset": (255, 214, 130), "night": (255, 216, 110)}[light]
    first = int(rng.integers(5))
    x = float(rng.uniform(-6, 0))
    k = 0
    while x < 64:
        wide, roof = float(rng.uniform(11, 15)), float(rng.uniform(10, 26))
        pen.outline([(x, roof), (x + wide, roof), (x + wide, 50), (x, 50)], walls[(first + k) % 5])
        pen.outline(
            [(x - 0.4, roof), (x + wide + 0.4, roof), (x + wide + 0.4, roof + 1.5), (x - 0.4, roof + 1.5)],
            mix(walls[(first + k) % 5], (40, 30, 50), 0.4),
        )
        columns = 2 if wide < 13 else 3
        step = wide / columns
        for row in range(5):
            for column in range(columns):
                y, left = roof + 4 + row * 5.4, x + (column + 0.5) * step - 1.2
                if y < 44:
                    on = light == "day" or (row * 3 + column * 5 + k * 2) % 4 != 0
                    pane = lit if on else mix(lit, (40, 44, 90), 0.8)
                    glow.outline([(left, y), (left + 2.4, y), (left + 2.4, y + 3.0), (left, y + 3.0)], pane)
        x, k = x + wide, k + 1
    pen.stamp(sheet)
    glow.stamp(sheet)
    pen.outline([(-1, 47), (65, 47), (65, 51), (-1, 51)], (190, 186, 190))
    pen.outline([(-1, 50.4), (65, 50.4), (65, 66), (-1, 66)], (98, 100, 116))
    for left in range(-4, 68, 14):
        pen.outline([(left, 59.6), (left + 7, 59.6), (left + 6, 61.4), (left - 1, 61.4)], (244, 240, 220))
    pen.stamp(sheet)
    return sheet


def city_moves(pen: Pen, time: float, shift: float) -> None:
    """Two traffic lamps that change in turn."""
    for k, x in enumerate((5.0, 59.0)):
        pen.limb([(x, 49), (x, 36)], 1.1, (60, 62, 76))
        pen.outline([(x - 1.6, 31), (x + 1.6, 31), (x + 1.6, 37.4), (x - 1.6, 37.4)], (46, 46, 58))
        go = (time + shift + 0.5 * k) % 1.0 < 0.5
        pen.disc(x, 32.8, 1.1, (255, 60, 50) if not go else (90, 40, 40))
        pen.disc(x, 35.6, 1.1, (70, 240, 110) if go else (40, 80, 50))


def snow(light: str, rng: np.random.Generator) -> Image.Image:
    """White hills, mountains and firs under snow."""
    sheet = sky.heaven(light, 42, rng, low=22)
    pen = _pen(light)
    x = float(rng.uniform(8, 24))
    for left, tall, wide in ((x, 25.0, 21.0), (x + 30, 20.0, 19.0)):
        top = 44 - tall
        pen.outline([(left, top), (left + wide, 46), (left - wide, 46)], (150, 172, 208))
        pen.outline(
            [(left, top), (left + 7, top + 8), (left + 2.4, top + 6.6), (left - 1.6, top + 9), (left - 7, top + 8)],
            (248, 250, 255),
        )
    hill(pen, 43, 1.8, float(rng.uniform()), (214, 228, 246))
    for x in (float(rng.uniform(2, 9)), float(rng.uniform(12, 18)), float(rng.uniform(54, 62))):
        pen.limb([(x, 50), (x, 44)], 2.0, (108, 76, 60))
        for part in range(3):
            top, wide = 27 + 5 * part, 4.0 + 1.5 * part
            pen.outline([(x, top), (x + wide, top + 8), (x - wide, top + 8)], (38, 112, 96))
            pen.outline([(x, top), (x + wide * 0.45, top + 3.6), (x - wide * 0.45, top + 3.6)], (248, 250, 255))
    hill(pen, 49, 1.0, float(rng.uniform()), (244, 248, 255))
    hill(pen, 58.5, 1.0, 0.2, (222, 234, 250))
    pen.stamp(sheet)
    return sheet


def snow_moves(pen: Pen, time: float, shift: float) -> None:
    """Snow that falls."""
    for k in range(22):
        y = ((k * 0.5698 + shift) % 1.0 * 66 + 26 * time * (1 + 0.3 * (k % 3))) % 66 - 1
        x = (k * 0.7549 * 64 + 17 * shift + 2 * math.sin(TURN * (time + k / 7))) % 64
        pen.disc(x, y, 0.75 + 0.25 * (k % 2), (250, 252, 255))


def desert(light: str, rng: np.random.Generator) -> Image.Image:
    """Dunes, pyramids and a cactus."""
    sheet = sky.heaven(light, 38, rng)
    pen = _pen(light)
    x = float(rng.uniform(14, 46))
    for left, tall in ((x, 15.0), (x + 15, 10.0)):
        pen.outline([(left, 39 - tall), (left + tall * 1.05, 40), (left - tall * 1.05, 40)], (226, 166, 92))
        pen.outline([(left, 39 - tall), (left + tall * 1.05, 40), (left + tall * 0.25, 40)], (184, 122, 70))
    hill(pen, 40, 2.0, float(rng.uniform()), (232, 168, 88))
    hill(pen, 45, 1.8, float(rng.uniform()), (244, 188, 104))
    side = 1 if x < 30 else -1
    cactus = pen.at(32 + side * float(rng.uniform(22, 27)), 51)
    green: Colour = (52, 142, 82)
    cactus.limb([(0, 0), (0, -17)], 4.0, green)
    cactus.limb([(0, -6), (-4.6, -6.6), (-4.6, -12)], 2.8, green)
    cactus.limb([(0, -8.4), (4.4, -9), (4.4, -14)], 2.6, green)
    hill(pen, 50, 0.9, float(rng.uniform()), (250, 204, 124))
    hill(pen, 58.5, 1.2, 0.4, (238, 182, 98))
    for k in range(3):
        pen.oval(8 + 22 * k + 3 * float(rng.uniform()), 60.5, 1.8, 1.0, (196, 134, 80))
    pen.stamp(sheet)
    return sheet


def desert_moves(pen: Pen, time: float, shift: float) -> None:
    """Sand that the wind carries along the dunes."""
    for k in range(6):
        x = (k * 13 + 34 * time + 60 * shift) % 76 - 6
        y = 46.5 + 2.6 * k - 6 * (k % 2)
        pen.limb([(x - 2.4, y), (x + 2.4, y)], 0.7, (255, 230, 176))


def meadow(light: str, rng: np.random.Generator) -> Image.Image:
    """Green hills with flowers and a fence."""
    sheet = sky.heaven(light, 40, rng)
    pen = _pen(light)
    hill(pen, 38, 3.4, float(rng.uniform()), (126, 196, 112))
    x = float(rng.uniform(6, 58))
    pen.outline([(x - 3.4, 40), (x - 3.4, 34), (x + 3.4, 34), (x + 3.4, 40)], (250, 242, 226))
    pen.outline([(x - 4.6, 34.4), (x, 29.6), (x + 4.6, 34.4)], (214, 76, 64))
    hill(pen, 43, 2.4, float(rng.uniform()), (104, 186, 84))
    for post in range(-2, 70, 8):
        pen.limb([(post, 47), (post, 42.4)], 1.3, (250, 246, 236))
    pen.limb([(-1, 44.2), (65, 44.2)], 0.9, (250, 246, 236))
    hill(pen, 48, 0.9, float(rng.uniform()), (124, 204, 84))
    hill(pen, 58, 1.0, 0.5, (96, 182, 70))
    pen.stamp(sheet)
    return sheet


_PETALS: tuple[Colour, ...] = ((250, 90, 120), (255, 222, 70), (250, 250, 250), (186, 110, 230))


def meadow_moves(pen: Pen, time: float, shift: float) -> None:
    """Flowers that sway."""
    for k in range(9):
        x, y = (k * 7.6 + 7 * shift) % 68 - 2, 53.0 + 7.6 * ((k * 0.5698 + shift) % 1.0)
        sway = 0.8 * math.sin(TURN * (1.5 * time + k / 5))
        pen.limb([(x, y + 3.4), (x + sway, y)], 0.8, (54, 136, 60))
        pen.disc(x + sway, y, 1.5, _PETALS[k % 4])
        pen.disc(x + sway, y, 0.6, (255, 190, 40))
