"""Cat, dog and horse: a body between two hips, four jointed legs, a head and a tail.

Local coordinates are pixels at size 1: feet at y = 0, facing right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from flickbook.world.book.pen import Colour, Pen, Point, mix
from flickbook.world.book.pose import Pose

_DARK: Colour = (40, 32, 40)
_WHITE: Colour = (250, 248, 244)


@dataclass(frozen=True)
class _Build:
    """Lengths in pixels and colours of one animal."""

    coat: Colour
    long: float
    legs: float
    thick: float
    leg: float
    sock: Colour
    head: Point


CAT = _Build((246, 146, 44), 9.5, 7.5, 8.6, 2.9, (255, 232, 200), (3.6, -6.6))
DOG = _Build((158, 100, 58), 10.5, 8.5, 8.4, 3.2, (248, 232, 210), (4.6, -6.4))
HORSE = _Build((190, 104, 52), 11.0, 11.5, 8.0, 2.8, (70, 40, 30), (8.2, -10.5))


def cat(pen: Pen, pose: Pose) -> None:
    """A ginger cat with pointed ears and a long tail."""
    _animal(pen, pose, CAT, _cat_head, _cat_tail)


def dog(pen: Pen, pose: Pose) -> None:
    """A brown dog with hanging ears, a white muzzle and a red collar."""
    _animal(pen, pose, DOG, _dog_head, _dog_tail)


def horse(pen: Pen, pose: Pose) -> None:
    """A chestnut horse with a black mane."""
    _animal(pen, pose, HORSE, _horse_head, _horse_tail)


_Head = Callable[[Pen, Pose, Point, Point], None]
_Tail = Callable[[Pen, Pose, Point], None]


def _animal(pen: Pen, pose: Pose, build: _Build, head: _Head, tail: _Tail) -> None:
    upright = pose.action == "dancing"
    lying = pose.asleep
    low = build.thick / 2 + 0.3 if lying else build.legs + build.thick * 0.28
    rise = {"dancing": 1.15, "flying": 0.05, "jumping": 0.35 * pose.air}.get(pose.action, 0.0)
    long = build.long * (0.85 if upright else 1.0)
    hip = (-long / 2 + (2.5 if upright else 0.0), -low)
    chest = (hip[0] + long * math.cos(rise), hip[1] - long * math.sin(rise))
    far = mix(build.coat, _DARK, 0.22)
    for near in (False, True):
        colour = build.coat if near else far
        sock = build.sock if near else mix(build.sock, _DARK, 0.22)
        if near:
            pen.layer()
            tail(pen, pose, (hip[0] - build.thick * 0.35, hip[1] - build.thick * 0.2))
            pen.limb([hip, chest], build.thick, build.coat)
            _coat(pen, build, hip, chest)
        for front in (False, True):
            joint = chest if front else hip
            start = (joint[0] + (1.2 if near else -0.6) * (1 if front else -1), joint[1] + build.thick * 0.18)
            _leg(pen, pose, build, start, front, near, (colour, sock))
    pen.layer()
    if lying:
        drop = 0.6 if build is HORSE else 0.18
        spot = (chest[0] + build.thick * 0.55, min(chest[1] + build.head[1] * drop, -6.2))
    elif upright:
        spot = (chest[0] + 1.0, chest[1] + build.head[1] * 0.72)
    else:
        spot = (chest[0] + build.head[0], chest[1] + build.head[1])
    head(pen, pose, chest, spot)


def _coat(pen: Pen, build: _Build, hip: Point, chest: Point) -> None:
    """Stripes of the cat, the dog's white chest."""
    if build is CAT:
        for share in (0.08, 0.42, 0.76):
            x, y = (hip[k] + (chest[k] - hip[k]) * share for k in (0, 1))
            pen.limb([(x - 0.4, y - 4.0), (x + 0.3, y - 0.8)], 1.3, (204, 96, 20), rim=False)
    elif build is DOG:
        pen.oval(chest[0] + 1.4, chest[1] + 1.4, 2.4, 2.8, build.sock, rim=False)


def _leg(
    pen: Pen, pose: Pose, build: _Build, start: Point, front: bool, near: bool, colours: tuple[Colour, Colour]
) -> None:
    length = -start[1] if not (pose.action in ("dancing", "jumping", "flying") and front) else build.legs
    shift = (0.0 if front else math.pi) + (0.0 if near else math.pi)
    if pose.action == "running":
        shift = (0.0 if front else 2.4) + (0.0 if near else 0.7)
    swing, bend = pose.stride * pose.wave(shift), pose.stride * max(0.0, math.cos(pose.turn + shift))
    if pose.asleep:
        points = [start, (start[0] + 1.6, -1.4), (start[0] + (5.0 if front else 4.2), -1.4)]
        pen.limb(points[1:], build.leg, colours[0])
        pen.disc(*points[2], build.leg * 0.52, colours[1])
        return
    if pose.action == "jumping":
        swing, bend = (1.0 if front else -0.9) * pose.air, 0.3 * (1 - pose.air)
    elif pose.action == "flying":
        swing, bend = (1.45 if front else -1.45) + (0.12 if near else -0.1), 0.1
    elif pose.action == "surfing":
        swing, bend = (0.45 if front else -0.35) + (0.0 if near else -0.15), 0.2 + 0.15 * pose.wave()
    elif pose.action == "dancing" and front:
        swing, bend = 1.55 + 0.8 * pose.wave(0.0 if near else math.pi), 0.2
        length = build.legs * 0.9
    elif pose.action == "dancing":
        swing, bend = 0.25 * pose.wave(shift) + (0.12 if near else -0.12), 0.0
    half = length * 0.5
    knee = (start[0] + half * math.sin(swing), start[1] + half * math.cos(swing))
    lower = swing - bend
    foot = (knee[0] + (half - 0.9) * math.sin(lower), knee[1] + (half - 0.9) * math.cos(lower))
    pen.limb([start, knee, foot], build.leg, colours[0])
    pen.disc(foot[0] + 0.4, foot[1], build.leg * 0.56, colours[1])


def _eyes(pen: Pen, pose: Pose, x: float, y: float, gap: float, size: float) -> None:
    """Two eyes; lines when they are closed."""
    for eye in (x, x + gap):
        if pose.asleep:
            pen.limb([(eye - 1.0, y), (eye, y + 0.6), (eye + 1.0, y)], 0.7, _DARK, rim=False)
        else:
            pen.oval(eye, y, size * 0.85, size, _DARK, rim=False)


def _cat_head(pen: Pen, pose: Pose, chest: Point, spot: Point) -> None:
    x, y = spot
    twitch = 0.3 * pose.flap()
    for side in (-1, 1):
        pen.outline(
            [(x + side * 5.6, y - 1), (x + side * (5.2 + twitch), y - 9.2), (x + side * 0.4, y - 4.4)], CAT.coat
        )
    pen.oval(x, y, 6.4, 5.6, CAT.coat)
    for side in (-1, 1):
        pen.outline(
            [(x + side * 4.6, y - 3), (x + side * 4.5, y - 7.0), (x + side * 2.0, y - 4.4)], (255, 176, 160), False
        )
    pen.limb([(x, y - 5.2), (x, y - 3.4)], 1.2, (204, 96, 20), rim=False)
    pen.oval(x + 0.6, y + 2.6, 3.0, 2.1, CAT.sock, rim=False)
    pen.outline([(x - 0.3, y + 1.3), (x + 1.7, y + 1.3), (x + 0.7, y + 2.4)], (232, 92, 110), False)
    _eyes(pen, pose, x - 2.0, y - 0.4, 5.2, 1.35)


def _cat_tail(pen: Pen, pose: Pose, root: Point) -> None:
    x, y = root
    sway = 1.8 * pose.flap()
    if pose.asleep:
        points = [(x, y + 2), (x - 3.4, -2.6), (x - 1.0, -1.2), (x + 4, -1.2)]
    elif pose.action == "flying":
        points = [(x, y), (x - 4, y - 0.4 + 0.5 * sway), (x - 9, y - 1 - sway)]
    else:
        points = [(x, y), (x - 3.6, y - 2.2), (x - 4.6 + 0.4 * sway, y - 7), (x - 2.6 + sway, y - 11.5)]
    pen.limb(points, 2.4, CAT.coat)
    pen.disc(*points[-1], 1.25, (204, 96, 20), rim=False)


def _dog_head(pen: Pen, pose: Pose, chest: Point, spot: Point) -> None:
    x, y = spot
    pen.limb([(chest[0] + 1, chest[1] - 1), (x - 1, y + 2)], 5.0, DOG.coat)
    pen.limb([(x - 3.4, y + 4.6), (x + 2.0, y + 5.2)], 1.7, (226, 40, 48), rim=False)
    pen.oval(x, y, 5.4, 5.2, DOG.coat)
    pen.oval(x + 4.2, y + 2.2, 3.6, 2.6, DOG.sock)
    pen.oval(x + 7.2, y + 1.0, 1.4, 1.2, _DARK, rim=False)
    _eyes(pen, pose, x + 1.4, y - 1.2, 3.0, 1.2)
    pen.layer()
    drop = 0.8 * pose.flap() if pose.stride or pose.air else 0.0
    ear = [(x - 1.4, y - 4.8), (x - 4.6, y - 3.6), (x - 6.0 - drop, y + 2.2), (x - 3.8 - drop, y + 3.8), (x - 2.0, y)]
    pen.curve(ear, (96, 56, 34))


def _dog_tail(pen: Pen, pose: Pose, root: Point) -> None:
    x, y = root
    wag = 0.0 if pose.asleep else 2.2 * pose.flap()
    lift = -1.0 if pose.asleep else 6.0
    pen.limb([(x, y), (x - 3.0, y - lift * 0.45), (x - 4.2 + wag, y - lift)], 2.3, DOG.coat)


def _horse_head(pen: Pen, pose: Pose, chest: Point, spot: Point) -> None:
    x, y = spot
    mane: Colour = (44, 28, 30)
    nod = 0.8 * pose.wave() if pose.stride else 0.0
    y += nod
    blow = 1.3 * pose.flap() if pose.stride or pose.action in ("surfing", "jumping") else 0.0
    neck = (chest[0] + 0.6, chest[1] - 1.0)
    pen.limb([(neck[0] - 3.0, neck[1] - 2.0), (x - 4.2 - blow, y + 2.5), (x - 3.2 - blow, y - 1.4)], 3.2, mane)
    pen.limb([neck, (x - 0.6, y + 0.8)], 5.2, HORSE.coat)
    for ear in (-1.6, 0.6):
        pen.outline([(x + ear - 1.1, y - 2), (x + ear, y - 5.6), (x + ear + 1.2, y - 2)], HORSE.coat)
    pen.limb([(x, y), (x + 5.6, y + 3.4)], 5.0, HORSE.coat)
    pen.oval(x + 6.6, y + 4.0, 2.3, 2.2, (226, 186, 156), rim=False)
    pen.disc(x + 7.6, y + 3.6, 0.6, _DARK, rim=False)
    pen.limb([(x - 1.0, y - 2.6), (x + 1.4, y - 1.2)], 1.7, mane, rim=False)
    pen.limb([(x + 2.4, y + 0.2), (x + 4.6, y + 1.5)], 1.1, _WHITE, rim=False)
    if pose.asleep:
        pen.limb([(x + 0.3, y + 0.8), (x + 2.0, y + 1.6)], 0.8, _DARK, rim=False)
    else:
        pen.disc(x + 1.2, y + 0.8, 1.1, _DARK, rim=False)


def _horse_tail(pen: Pen, pose: Pose, root: Point) -> None:
    x, y = root
    sway = 1.4 * pose.flap()
    out = 7.0 if pose.stride > 0.8 or pose.air > 0.3 else 3.2
    pen.limb(
        [(x + 1, y), (x - out * 0.6, y - 0.4), (x - out - sway * 0.5, y + 4.0), (x - out + sway, y + 8)],
        2.8,
        (44, 28, 30),
    )
