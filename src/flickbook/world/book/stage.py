"""What an action puts around its subject: water, waves, a board, shadows, rails, notes and letters of sleep."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from flickbook.world.book.pen import OVER, SIZE, Colour, Pen, Point, mix
from flickbook.world.book.pose import TURN, Pose

#: The colour of the wave that a surfer rides in each place, before the light.
_WAVES: dict[str, Colour] = {
    "beach": (30, 140, 214),
    "forest": (40, 150, 180),
    "city": (50, 132, 206),
    "snow": (110, 190, 236),
    "desert": (232, 150, 66),
    "space": (150, 86, 226),
    "underwater": (60, 190, 224),
    "meadow": (46, 150, 206),
}
_LAKE: Colour = (40, 152, 190)
_FOAM: Colour = (244, 250, 255)


def shadow(picture: Image.Image, x: float, y: float, wide: float) -> None:
    """Darken an ellipse of half-width `wide` on the ground."""
    left, top = round(OVER * (x - wide)), round(OVER * (y - 1.5))
    mask = Image.new("L", (round(2 * OVER * wide), 3 * OVER), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=70)
    picture.paste((16, 14, 40), (left, top), mask)


def surface(top: float, time: float, swell: float = 0.8) -> list[Point]:
    """The wavy line of water at height `top`."""
    return [(float(x), top + swell * math.sin(TURN * (x / 21 - 1.5 * time))) for x in range(-2, 68, 2)]


def flood(picture: Image.Image, pen: Pen, place: str, line: list[Point], cover: float) -> None:
    """Water below `line` that lets `1 - cover` of what is behind it show, with a bright edge."""
    colour = _LAKE if place == "desert" else _WAVES[place]
    wet = picture.copy()
    pen.outline([*line, (68.0, 66.0), (-4.0, 66.0)], colour)
    low = [(x, y + 7) for x, y in line]
    pen.outline([*low, (68.0, 66.0), (-4.0, 66.0)], mix(colour, (10, 40, 120), 0.25))
    pen.stamp(wet)
    picture.paste(Image.blend(picture, wet, cover))
    pen.limb(line, 1.0, mix(colour, _FOAM, 0.7))
    pen.stamp(picture)


def ripples(pen: Pen, x: float, y: float, time: float, side: int, reach: float) -> None:
    """Foam around a body at the surface and a wake behind it."""
    for k in range(4):
        age = (time * 3 + k / 4) % 1.0
        pen.limb(
            [(x - side * (reach + 9 * age), y + 2.2 * age), (x - side * (reach + 9 * age + 3), y + 2.2 * age)],
            1.1,
            _FOAM,
        )
    pen.limb([(x - reach * 0.8, y + 0.4), (x + reach * 0.8, y + 0.4)], 1.3, _FOAM)


def wave(pen: Pen, foam: Pen, place: str, pose: Pose) -> None:
    """A breaking wave behind a rider whose feet are at the origin, facing right; `foam` is for what is white on it."""
    colour = _WAVES[place]
    roll = 1.2 * pose.wave()
    edge: list[Point] = [(-70, -17), (-40, -19), (-30, -25 - roll), (-21, -28 - roll), (-14, -25), (-12.4, -20.5)]
    inner: list[Point] = [
        (-15.6, -22),
        (-18.4, -17),
        (-16, -9),
        (-8, -2.4),
        (2, 0.2),
        (14, 1.6),
        (30, 2.8 + roll),
        (70, 2),
    ]
    pen.outline([*edge, *inner, (70, 30), (-70, 30)], colour)
    pen.outline(
        [(-70, -6), (-30, -8), (-14, 0), (0, 4), (16, 5.4), (70, 6), (70, 30), (-70, 30)],
        mix(colour, (16, 30, 110), 0.22),
    )
    for k in range(3):
        start = -23 - 3.4 * k
        pen.limb(
            [(start + 2, -21 + 3 * k), (start + 4, -12 + 2.5 * k), (start + 12, -3 + 2.2 * k)],
            0.9,
            mix(colour, _FOAM, 0.45),
        )
    for k, (x, y, radius) in enumerate(
        ((-33, -24, 3.0), (-27, -27, 3.2), (-20.5, -28, 3.2), (-15, -25.4, 2.8), (-12.6, -21.4, 2.0))
    ):
        foam.disc(x, y - 0.6 * roll, radius + 0.5 * pose.wave(1.3 * k), _FOAM)
    for k in range(6):
        age = (pose.time * 3 + k / 6) % 1.0
        foam.disc(-9 - 9 * age, -1 - 9 * age * (1.4 - age) - k % 3, 1.3 - 0.7 * age, _FOAM)
    foam.limb([(-12, -0.6), (-2, 1.4), (6, 2.4)], 1.4, _FOAM)


def board(pen: Pen) -> None:
    """A surfboard under feet at the origin."""
    pen.curve([(-12, -1.0), (0, -1.4), (10, -1.6), (14.4, -3.4), (11, 0.8), (0, 1.6), (-10, 1.2)], (255, 214, 50))
    pen.limb([(-10, 0.1), (11, -0.6)], 0.9, (232, 60, 60), rim=False)


def letters(pen: Pen, x: float, y: float, time: float) -> None:
    """Two letters Z that rise and grow."""
    for k in range(2):
        age = (time + k / 2) % 1.0
        half = 1.2 + 1.6 * age
        a, b = x + 9 * age + math.sin(TURN * age), y - 16 * age
        corners = [(a - half, b - half), (a + half, b - half), (a - half, b + half), (a + half, b + half)]
        pen.limb(corners, 1.1, (255, 255, 255))


def notes(pen: Pen, x: float, y: float, pose: Pose) -> None:
    """Two notes of music, one on each side."""
    for side in (-1, 1):
        a, b = x + side * 20, y - 30 + 2.2 * pose.wave(1.6 * side)
        colour: Colour = (255, 226, 70) if side < 0 else (255, 120, 190)
        pen.limb([(a + 1.2, b), (a + 1.2, b - 5.4), (a + 3.4, b - 4.2)], 1.0, colour)
        pen.oval(a, b, 1.7, 1.3, colour)


def dust(pen: Pen, x: float, y: float, time: float, side: int) -> None:
    """Puffs behind running feet."""
    for k in range(3):
        age = (time * 4 + k / 3) % 1.0
        pen.disc(x - side * (12 + 8 * age), y - 0.8 - 2.4 * age, 0.8 + 1.3 * age, (238, 232, 226))


def rails(pen: Pen, y: float) -> None:
    """A track along the ground."""
    for x in range(-2, 68, 6):
        pen.limb([(x, y + 1.6), (x - 1.2, y + 3.0)], 1.4, (112, 78, 56))
    pen.limb([(-2, y + 1.0), (SIZE + 2, y + 1.0)], 1.2, (92, 94, 110))
