"""Car, bus, train and boat.

Local coordinates are pixels at size 1: wheels or keel at y = 0, facing right.
"""

from __future__ import annotations

import math

from flickbook.world.book.pen import Colour, Pen, Point
from flickbook.world.book.pose import Pose

_DARK: Colour = (40, 38, 48)
_GLASS: Colour = (168, 224, 250)
_STEEL: Colour = (214, 218, 226)


def _wheel(pen: Pen, pose: Pose, x: float, radius: float, hub: Colour = _STEEL) -> None:
    """A wheel on the ground whose spokes turn with the way."""
    pen.disc(x, -radius, radius, _DARK)
    pen.disc(x, -radius, radius * 0.55, hub, rim=False)
    angle = pose.turn if pose.action != "standing" else 0.5
    dx, dy = radius * 0.52 * math.cos(angle), radius * 0.52 * math.sin(angle)
    for u, v in ((dx, dy), (-dy, dx)):
        pen.limb([(x - u, -radius - v), (x + u, -radius + v)], 0.8, _DARK, rim=False)


def _lamp(pen: Pen, x: float, y: float) -> None:
    pen.disc(x, y, 1.5, (255, 244, 150), rim=False)


def car(pen: Pen, pose: Pose) -> None:
    """A small red car."""
    red: Colour = (230, 38, 44)
    if pose.action == "flying":
        beat = -0.15 - 0.5 * pose.flap()
        pen.at(-2, -12, beat * 0.6).curve([(3, 1), (0, -8), (-8, -13), (-9, -6), (-4, 1)], (240, 240, 250))
        pen.layer()
    pen.curve([(-13, -9), (-9.6, -17.4), (-6, -19), (3.4, -19), (7, -17), (11.6, -9), (6, -7), (-8, -7)], red)
    body = [
        (-17, -4),
        (-17.2, -9),
        (-14, -11),
        (0, -11.4),
        (12, -10.4),
        (17, -8.4),
        (17.6, -4),
        (14, -2.6),
        (-14, -2.6),
    ]
    pen.curve(body, red)
    pen.outline([(-9.6, -11.2), (-7.2, -16.4), (-1.4, -16.8), (-1.4, -11.2)], _GLASS, False)
    pen.outline([(0.4, -11.2), (0.4, -16.8), (3.6, -16.6), (7.6, -11.2)], _GLASS, False)
    pen.limb([(-16, -5.6), (16.4, -5.6)], 1.1, (168, 20, 34), rim=False)
    _lamp(pen, 16, -7.6)
    pen.layer()
    for x in (-9.4, 9.6):
        _wheel(pen, pose, x, 4.2)
    if pose.action == "flying":
        pen.layer()
        pen.at(-1, -9, beat).curve([(3, 1), (1, -9), (-8, -15), (-9.4, -7), (-4, 1)], (252, 252, 255))


def bus(pen: Pen, pose: Pose) -> None:
    """A yellow bus with a row of windows."""
    yellow: Colour = (255, 196, 20)
    pen.curve(
        [
            (-19, -3),
            (-19, -12),
            (-18.6, -21),
            (-15, -22.4),
            (0, -22.6),
            (13, -22.4),
            (17.4, -20),
            (18.8, -12),
            (19, -3),
            (0, -2.6),
        ],
        yellow,
    )
    for x in (-15.6, -8.6, -1.6, 5.4):
        pen.outline([(x, -18.6), (x + 5, -18.6), (x + 5, -12.6), (x, -12.6)], _GLASS, False)
    pen.outline([(12.2, -18.6), (16.2, -18.6), (17.6, -11.4), (12.2, -11.4)], _GLASS, False)
    pen.outline([(-18.6, -9.4), (18.6, -9.4), (18.6, -7.6), (-18.6, -7.6)], _DARK, False)
    _lamp(pen, 17.2, -5.4)
    pen.layer()
    for x in (-11, 11):
        _wheel(pen, pose, x, 4.2)


def train(pen: Pen, pose: Pose) -> None:
    """A green steam engine with a red cab, a funnel and smoke."""
    green: Colour = (30, 138, 84)
    red: Colour = (214, 44, 50)
    puffs = 4
    for k in range(puffs):
        age = (pose.time * 2 + k / puffs) % 1.0
        still = pose.action == "standing"
        x, y = 10 - (4 if still else 15) * age, -21.5 - 6.5 * age
        pen.disc(x, y, 1.4 + 2.4 * age, (228, 230, 238), rim=False)
    pen.layer()
    pen.outline([(8.2, -12), (7.4, -21.6), (13.2, -21.6), (12.4, -12)], _DARK)
    pen.curve([(-5, -6), (-5, -16), (8, -16.4), (15, -15.4), (16.6, -11), (15, -6.2), (6, -6)], green)
    pen.limb([(0.6, -15.6), (0.6, -6.6)], 1.3, (244, 204, 70), rim=False)
    pen.limb([(5.6, -15.6), (5.6, -6.6)], 1.3, (244, 204, 70), rim=False)
    pen.disc(15.4, -11.4, 1.9, (255, 240, 150))
    pen.outline([(-17, -3.6), (-17, -20), (-4, -20), (-4, -3.6)], red)
    pen.outline([(-18.6, -22.6), (-2.4, -22.6), (-2.4, -19.8), (-18.6, -19.8)], _DARK)
    pen.outline([(-13.8, -17.4), (-7.2, -17.4), (-7.2, -11.6), (-13.8, -11.6)], _GLASS, False)
    pen.outline([(-17, -7), (14, -7), (19.4, -1.2), (14, -3), (-17, -3)], _DARK)
    pen.layer()
    centres = ((-12, 4.4), (-2.4, 3.7), (5.2, 3.7), (12.2, 2.9))
    for x, radius in centres:
        _wheel(pen, pose, x, radius, (224, 60, 56))
    angle = pose.turn if pose.action != "standing" else 0.5
    u, v = 2.0 * math.cos(angle), 2.0 * math.sin(angle)
    pen.limb([(-12 + u, -4 + v), (5.2 + u, -3.6 + v)], 1.1, _STEEL, rim=False)


def boat(pen: Pen, pose: Pose) -> None:
    """A sailing boat with a white and a red sail."""
    breath = 0.8 * pose.flap()
    pen.limb([(0.4, -6), (0.4, -29)], 1.3, (110, 66, 40))
    main: list[Point] = [(-1, -27.6), (-1, -8.6), (-14, -8.6), (-10.4 - breath, -17)]
    pen.curve([main[0], (-1, -18), main[1], (-7, -8.2), main[2], main[3]], (250, 250, 252))
    pen.curve([(1.8, -25), (7.2 + breath, -18), (13.4, -8.8), (7, -8.4), (1.8, -8.8), (1.8, -17)], (236, 62, 58))
    wave = 1.0 * pose.flap(0.8)
    pen.outline([(0.4, -29.4), (-5, -28.4 + wave), (0.4, -26.8)], (255, 206, 40))
    pen.curve([(-15.6, -7), (0, -6.6), (17.4, -7.6), (13, -0.4), (9, 0.6), (-9, 0.6), (-12.6, -0.6)], (150, 82, 44))
    pen.limb([(-13.8, -4.9), (15, -5.3)], 1.3, (246, 232, 206), rim=False)
