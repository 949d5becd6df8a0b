"""Panda, person and astronaut: two jointed legs, two arms and a large head.

Local coordinates are pixels at size 1: feet at y = 0, facing right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from flickbook.world.book.pen import Colour, Pen, Point, mix
from flickbook.world.book.pose import Pose

_DARK: Colour = (34, 30, 38)
_WHITE: Colour = (252, 252, 250)


@dataclass(frozen=True)
class _Build:
    """Lengths in pixels and colours: legs, arms, hands and feet. `hips` is half the distance of the legs."""

    leg: float
    thigh: float
    hips: float
    shoulder: float
    width: float
    arm: float
    sleeve: float
    trouser: Colour
    shoe: Colour
    shirt: Colour
    hand: Colour


PANDA = _Build(5.0, 5.2, 3.2, 15.0, 5.4, 7.6, 4.0, _DARK, _DARK, _DARK, _DARK)
PERSON = _Build(10.0, 3.5, 1.3, 17.0, 3.0, 7.8, 2.9, (40, 72, 178), (250, 250, 250), (228, 44, 52), (244, 190, 148))
ASTRONAUT = _Build(8.0, 4.6, 1.9, 15.0, 4.2, 7.4, 3.8, (240, 242, 248), (255, 132, 36), (240, 242, 248), (255, 132, 36))


def panda(pen: Pen, pose: Pose) -> None:
    """A black and white panda with round ears."""
    _body(pen, pose, PANDA, _panda_trunk, _panda_head)


def person(pen: Pen, pose: Pose) -> None:
    """A person in a red shirt and blue trousers."""
    _body(pen, pose, PERSON, _person_trunk, _person_head)


def astronaut(pen: Pen, pose: Pose) -> None:
    """An astronaut in a white suit with a blue visor and orange boots."""
    _body(pen, pose, ASTRONAUT, _astronaut_trunk, _astronaut_head)


Part = Callable[[Pen, Pose], None]


def _body(pen: Pen, pose: Pose, build: _Build, trunk: Part, head: Part) -> None:
    pen = _tilted(pen, pose, build)
    dark = 0.25 if build.trouser != _DARK else 0.0
    if pose.action == "flying":
        _cape(pen, pose, build)
    _arm(pen, pose, build, False, dark)
    _leg(pen, pose, build, False, dark)
    pen.layer()
    _leg(pen, pose, build, True, 0.0)
    trunk(pen, pose)
    pen.layer()
    head(pen, pose)
    pen.layer()
    _arm(pen, pose, build, True, 0.0)


def _tilted(pen: Pen, pose: Pose, build: _Build) -> Pen:
    """Swimmers and flyers are nearly level; sleepers lie on their back."""
    middle = build.shoulder * 0.8
    if pose.action == "flying":
        return pen.at(-middle * 0.9, -10, 1.2)
    if pose.action == "swimming":
        return pen.at(-middle, -9, 1.15)
    if pose.asleep:
        return pen.at(middle, -3.6, -math.pi / 2, high=1.0, wide=0.92)
    return pen


def _two(start: Point, length: float, swing: float, bend: float) -> list[Point]:
    half = length / 2
    knee = (start[0] + half * math.sin(swing), start[1] + half * math.cos(swing))
    lower = swing + bend
    return [start, knee, (knee[0] + half * math.sin(lower), knee[1] + half * math.cos(lower))]


def _leg(pen: Pen, pose: Pose, build: _Build, near: bool, dark: float) -> None:
    side = 1 if near else -1
    shift = 0.0 if near else math.pi
    swing, bend = 0.0, 0.0
    if pose.action in ("walking", "running"):
        swing = pose.stride * pose.wave(shift)
        bend = -pose.stride * (0.25 + 0.9 * max(0.0, math.cos(pose.turn + shift)))
    elif pose.action == "swimming":
        swing = 0.5 * pose.wave(shift)
        bend = -0.25
    elif pose.action == "jumping":
        swing, bend = (0.9 if near else -0.25) * pose.air, -1.0 * pose.air
    elif pose.action == "surfing":
        swing, bend = (0.55 if near else -0.5) + 0.2 * pose.wave(), -0.25 if near else 0.35
    elif pose.action == "dancing":
        swing, bend = 0.2 * side + 0.5 * max(0.0, pose.wave(shift)), -0.5 * max(0.0, pose.wave(shift))
    elif pose.action == "flying":
        swing, bend = 0.1 * side + 0.12 * pose.flap(shift), -0.1
    start = (side * build.hips, -build.leg)
    points = _two(start, build.leg - 1.2, swing, bend)
    pen.limb(points, build.thigh, mix(build.trouser, _DARK, dark))
    foot = points[-1]
    turned = swing + bend
    ahead = (foot[0] + 1.3 * math.cos(turned), foot[1] - 1.3 * math.sin(turned))
    pen.limb([foot, ahead], build.thigh * 0.8, mix(build.shoe, _DARK, dark))


def _arm(pen: Pen, pose: Pose, build: _Build, near: bool, dark: float) -> None:
    side = 1 if near else -1
    shift = math.pi if near else 0.0
    swing, bend = 0.35 * side, 0.1 * side
    if pose.action in ("walking", "running"):
        swing = pose.stride * pose.wave(shift)
        bend = 0.3 + 0.9 * (pose.stride - 0.4)
    elif pose.action == "swimming":
        swing, bend = (pose.turn if near else pose.turn + math.pi), 0.0
    elif pose.action == "jumping":
        swing, bend = side * (0.5 + 2.1 * pose.air), 0.0
    elif pose.action == "surfing":
        swing, bend = side * (1.55 + 0.55 * pose.wave(shift)), 0.3 * side
    elif pose.action == "dancing":
        swing, bend = side * (1.9 + 0.9 * pose.wave(shift)), 0.5 * side
    elif pose.action == "flying":
        swing, bend = (3.0 if near else 2.7) + 0.1 * pose.flap(shift), 0.0
    elif pose.asleep:
        swing, bend = 0.25, 0.1
    start = (side * build.width * 0.8, -build.shoulder)
    points = _two(start, build.arm, swing, bend)
    pen.limb(points, build.sleeve, mix(build.shirt, _DARK, dark))
    pen.disc(*points[-1], build.sleeve * 0.55, mix(build.hand, _DARK, dark))


def _cape(pen: Pen, pose: Pose, build: _Build) -> None:
    """A red cape that waves behind whoever flies."""
    wave = 2.2 * pose.flap()
    top = -build.shoulder
    points = [
        (-2, top - 1),
        (2.5, top),
        (-3.0, top + 8),
        (-7.5 + wave, top + 16),
        (-11 + wave, top + 12),
        (-7, top + 5),
    ]
    pen.curve(points, (236, 60, 40) if build is not PERSON else (255, 200, 40))


def eyes(pen: Pen, pose: Pose, x: float, y: float, gap: float, size: float) -> None:
    """Two eyes; lines when they are closed."""
    for eye in (x, x + gap):
        if pose.asleep:
            pen.limb([(eye - 0.9, y), (eye + 0.9, y)], 0.7, _DARK, rim=False)
        else:
            pen.disc(eye, y, size, _DARK, rim=False)


def _panda_trunk(pen: Pen, pose: Pose) -> None:
    pen.oval(0, -10.2, 7.6, 7.4, _WHITE)
    pen.limb([(-5.2, -14.4), (0, -15.6), (5.2, -14.4)], 4.2, _DARK, rim=False)


def _panda_head(pen: Pen, pose: Pose) -> None:
    x, y = 0.8, -21.0
    for side in (-1, 1):
        pen.disc(x + side * 5.6, y - 5.0, 2.9, _DARK)
    pen.oval(x, y, 7.6, 6.6, _WHITE)
    for side in (-1, 1):
        pen.oval(x + 0.6 + side * 3.2, y - 0.2, 1.9, 2.5, _DARK, rim=False, angle=side * 0.5)
        spot = (x + 0.9 + side * 2.9, y - 0.5)
        if pose.asleep:
            pen.limb([(spot[0] - 0.8, spot[1]), (spot[0] + 0.8, spot[1])], 0.6, _WHITE, rim=False)
        else:
            pen.disc(*spot, 0.75, _WHITE, rim=False)
    pen.oval(x + 0.7, y + 2.9, 1.4, 1.0, _DARK, rim=False)


def _person_trunk(pen: Pen, pose: Pose) -> None:
    pen.curve([(-3.4, -18), (3.4, -18), (3.2, -13), (2.8, -9.4), (-2.8, -9.4), (-3.2, -13)], PERSON.shirt)


def _person_head(pen: Pen, pose: Pose) -> None:
    x, y = 0.4, -22.6
    hair: Colour = (84, 48, 28)
    pen.disc(x - 0.5, y - 0.6, 5.0, hair)
    pen.oval(x + 0.6, y + 0.6, 4.2, 4.0, PERSON.hand)
    pen.curve(
        [(x - 4.6, y + 0.4), (x - 4, y - 4.4), (x + 1, y - 5.4), (x + 4.4, y - 2.6), (x + 1, y - 2.2)], hair, False
    )
    eyes(pen, pose, x + 0.4, y + 0.4, 2.9, 0.75)
    pen.limb([(x + 0.9, y + 2.6), (x + 2.1, y + 2.8), (x + 2.9, y + 2.4)], 0.6, (196, 70, 70), rim=False)


def _astronaut_trunk(pen: Pen, pose: Pose) -> None:
    pen.curve([(-7.4, -17), (-3, -17), (-3, -7.6), (-7.0, -8)], (150, 158, 176))
    pen.curve([(-4.6, -16.6), (4.6, -16.6), (4.8, -11), (4.2, -6.8), (-4.2, -6.8), (-4.8, -11)], ASTRONAUT.shirt)
    pen.outline([(-0.6, -14.0), (3.6, -14.0), (3.6, -10.6), (-0.6, -10.6)], (60, 120, 220), False)
    pen.disc(0.7, -12.3, 0.8, (255, 80, 70), False)


def _astronaut_head(pen: Pen, pose: Pose) -> None:
    x, y = 0.6, -21.0
    pen.disc(x, y, 6.4, ASTRONAUT.shirt)
    pen.oval(x + 1.4, y + 0.2, 4.8, 4.2, (28, 44, 96), rim=False)
    pen.oval(x + 1.5, y + 0.3, 4.1, 3.5, (70, 150, 236) if not pose.asleep else (40, 72, 140), rim=False)
    pen.limb([(x + 2.6, y - 1.7), (x + 4.0, y - 0.4)], 1.2, (226, 244, 255), rim=False)
