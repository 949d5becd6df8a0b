"""Bird, butterfly and fish: wings, fins and tails that beat.

Local coordinates are pixels at size 1: the lowest point at y = 0, facing right.
"""

from __future__ import annotations

import math

from flickbook.world.book.pen import Colour, Pen, mix
from flickbook.world.book.pose import Pose

_DARK: Colour = (38, 30, 44)
_WHITE: Colour = (252, 250, 246)
_BLUE: Colour = (46, 122, 228)
_ORANGE: Colour = (255, 118, 30)


def _eye(pen: Pen, pose: Pose, x: float, y: float, size: float) -> None:
    if pose.asleep:
        pen.limb([(x - size, y), (x, y + 0.6), (x + size, y)], 0.8, _DARK, rim=False)
        return
    pen.disc(x, y, size, _WHITE, rim=False)
    pen.disc(x + 0.3 * size, y, size * 0.66, _DARK, rim=False)


def bird(pen: Pen, pose: Pose) -> None:
    """A round blue bird with a yellow belly and an orange beak."""
    flies = pose.action == "flying" or pose.air > 0.15
    legs = 0.6 if pose.asleep else 4.2
    y = -legs - 6.6
    _bird_legs(pen, pose, flies, y)
    beat = pose.flap()
    spread = flies or pose.action in ("dancing", "surfing")
    if spread:
        _wing(pen.at(1.0, y - 3.0, 0.35 - 1.0 * beat, wide=0.9), mix(_BLUE, _DARK, 0.35))
        pen.layer()
    tail = 0.25 * pose.flap() + (0.2 if flies else -0.1)
    pen.at(-7.0, y + 1.0, tail).outline(
        [(1, -2.6), (-8.5, -3.6), (-7.4, -0.6), (-9, 2.2), (1, 3)], mix(_BLUE, _DARK, 0.2)
    )
    pen.oval(-0.6, y, 8.2, 6.8, _BLUE, angle=-0.12)
    pen.disc(5.0, y - 5.4, 5.4, _BLUE)
    pen.outline([(9.0, y - 7.0), (14.4, y - 4.6), (9.0, y - 3.0)], (255, 150, 20))
    pen.oval(1.8, y + 2.2, 5.6, 4.2, (255, 214, 84), rim=False, angle=-0.3)
    pen.limb([(3.2, y - 10.4), (2.0, y - 12.6)], 1.6, mix(_BLUE, _DARK, 0.2))
    _eye(pen, pose, 6.6, y - 6.4, 1.9)
    pen.layer()
    if spread:
        _wing(pen.at(-1.0, y - 1.6, 0.0 - 1.1 * beat), mix(_BLUE, _WHITE, 0.12))
    else:
        lift = 0.4 if pose.action == "running" else 0.0
        angle = lift * (0.5 + 0.7 * beat)
        wing = pen.at(1.0, y - 1.4, angle)
        wing.curve([(0.8, -1.6), (-4, -2.2), (-8.2, 1.2), (-5.0, 3.8), (-0.6, 3.0)], mix(_BLUE, _DARK, 0.22))


def _wing(pen: Pen, colour: Colour) -> None:
    """A wing that points up and back from its root at the origin."""
    pen.curve([(3.0, 0.6), (2.2, -6), (-3.4, -13.4), (-6.4, -12.0), (-6.6, -6), (-3.6, 1.0)], colour)


def _bird_legs(pen: Pen, pose: Pose, flies: bool, y: float) -> None:
    if pose.asleep:
        return
    for near in (False, True):
        shift = 0.0 if near else math.pi
        swing = -1.2 if flies else pose.stride * pose.wave(shift)
        start = (2.2 if near else -1.2, y + 5.4)
        length = 5.0
        foot = (start[0] + length * math.sin(swing), start[1] + length * math.cos(swing))
        pen.limb([start, foot, (foot[0] + 2.0, foot[1])], 1.3, (240, 120, 20))


def butterfly(pen: Pen, pose: Pose) -> None:
    """A pink butterfly with four spotted wings, seen from above."""
    wide = 0.68 + 0.32 * pose.flap()
    if pose.action in ("standing", "sleeping"):
        wide = (0.6 if pose.asleep else 0.86) + 0.12 * pose.flap()
    for side in (-1, 1):
        wing = pen.at(side * 0.6, -12, wide=side * wide)
        wing.curve([(0, 0), (4, -8.5), (11.5, -12), (15, -8), (13, -1.2), (6, 1.2)], (236, 60, 152))
        wing.curve([(0, 0.4), (6, 1.0), (11.4, 3.6), (10.6, 9.4), (6.4, 11.4), (2, 7)], (150, 66, 214))
        wing.disc(9.6, -6.6, 2.5, (255, 216, 70), rim=False)
        wing.disc(7.2, 6.0, 1.9, (255, 186, 220), rim=False)
    pen.layer()
    for side in (-1, 1):
        pen.limb([(0, -17), (side * 1.6, -20.5), (side * 3.6, -22.4)], 0.9, _DARK, rim=False)
        pen.disc(side * 3.6, -22.4, 1.0, _DARK, rim=False)
    pen.limb([(0, -16.4), (0, -5.4)], 2.9, (62, 40, 70))
    pen.disc(0, -16.8, 2.1, (62, 40, 70))
    if not pose.asleep:
        for x in (-0.9, 0.9):
            pen.disc(x, -17.2, 0.6, _WHITE, rim=False)


def fish(pen: Pen, pose: Pose) -> None:
    """An orange fish with white stripes."""
    sway = pose.flap()
    y = -9.0
    dark = mix(_ORANGE, _DARK, 0.2)
    tail = pen.at(-9.0, y, 0.16 * sway, wide=1.0 - 0.3 * sway)
    tail.curve([(1.6, 0), (-3, -4), (-8.4, -8), (-7.2, 0), (-8.4, 8), (-3, 4)], dark)
    pen.curve([(-5, y - 5), (-2, y - 10.8), (5, y - 10), (6, y - 5)], dark)
    pen.curve([(-3, y + 5), (-4.4, y + 9.0), (1, y + 8.6), (3, y + 5)], dark)
    pen.curve(
        [
            (-10, y),
            (-4, y - 6.4),
            (4, y - 8.2),
            (11.4, y - 4.4),
            (13.6, y + 0.6),
            (10, y + 5),
            (2, y + 7.4),
            (-5, y + 5.4),
        ],
        _ORANGE,
    )
    pen.curve(
        [(3.2, y - 8.0), (6.4, y - 7.4), (5.0, y - 1), (6.0, y + 6.6), (2.6, y + 7.2), (2.2, y)], _WHITE, rim=False
    )
    pen.curve(
        [(-6.0, y - 4.9), (-3.4, y - 6.6), (-4.0, y), (-3.2, y + 6.2), (-6.0, y + 4.9), (-6.8, y)], _WHITE, rim=False
    )
    pen.limb([(11.0, y + 2.8), (12.8, y + 2.6)], 0.9, (170, 50, 20), rim=False)
    _eye(pen, pose, 9.2, y - 2.0, 2.2)
    pen.layer()
    fin = pen.at(1.0, y + 2.0, 0.5 * pose.flap(1.2))
    fin.curve([(1.2, -1.6), (-3.6, -0.8), (-6.0, 3.2), (-1.6, 3.0)], dark)
