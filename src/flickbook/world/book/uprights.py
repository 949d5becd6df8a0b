"""Rocket, hot-air balloon and tree: what stands upright.

Local coordinates are pixels at size 1: the lowest point at y = 0, facing right.
"""

from __future__ import annotations

from flickbook.world.book.pen import Colour, Pen
from flickbook.world.book.pose import Pose

_RED: Colour = (232, 44, 52)


def rocket(pen: Pen, pose: Pose) -> None:
    """A white rocket with a red nose, red fins and a round window; in flight it leans forwards and burns."""
    flies = pose.action == "flying"
    burns = flies or pose.action in ("jumping", "dancing")
    if flies:
        pen = pen.at(-6, -6, 0.75)
    if burns:
        long = (12.0 if flies else 2.0 + 7 * pose.air + 2 * (pose.action == "dancing")) + 2.2 * pose.flap()
        for width, share, colour in ((4.0, 1.0, (255, 110, 20)), (2.3, 0.6, (255, 226, 80))):
            reach = long * share
            pen.curve(
                [
                    (-width, -4),
                    (width, -4),
                    (width * 0.8, -2 + reach * 0.4),
                    (0, -2 + reach),
                    (-width * 0.8, -2 + reach * 0.4),
                ],
                colour,
                False,
            )
        pen.layer()
    for side in (-1, 1):
        pen.curve([(side * 4, -12), (side * 9.4, -5.4), (side * 9.6, 0.2), (side * 4, -4)], _RED)
    pen.outline([(-3.6, -5), (3.6, -5), (4.4, -2.2), (-4.4, -2.2)], (90, 94, 112))
    pen.curve(
        [
            (0, -28.6),
            (4.6, -22.4),
            (6.2, -15),
            (5.0, -7),
            (3.4, -4.4),
            (-3.4, -4.4),
            (-5.0, -7),
            (-6.2, -15),
            (-4.6, -22.4),
        ],
        (246, 247, 250),
    )
    pen.curve([(0, -28.6), (3.1, -25.2), (4.8, -21.2), (0, -20.4), (-4.8, -21.2), (-3.1, -25.2)], _RED, False)
    pen.disc(0, -14.8, 3.1, (60, 74, 120), rim=False)
    pen.disc(0, -14.8, 2.3, (96, 190, 248), rim=False)
    pen.outline([(-0.9, -8.6), (0.9, -8.6), (1.0, 0), (-1.0, 0)], _RED, rim=True)


def balloon(pen: Pen, pose: Pose) -> None:
    """A hot-air balloon with coloured stripes and a basket that swings."""
    swing = 0.10 * pose.flap() if pose.action != "standing" else 0.0
    basket = pen.at(0, -10.6, swing)
    for x in (-2.6, 2.6):
        basket.limb([(x * 1.6, -1), (x, 6)], 0.8, (96, 62, 42), rim=False)
    if pose.flap() > -0.2:
        basket.disc(0, 2.6, 1.2 + 0.3 * pose.flap(), (255, 190, 40), rim=False)
    basket.layer()
    basket.curve([(-3.6, 5.4), (3.6, 5.4), (3.2, 10), (0, 10.6), (-3.2, 10)], (168, 108, 60))
    basket.limb([(-3.2, 6.2), (3.2, 6.2)], 1.2, (116, 70, 40), rim=False)
    pen.layer()
    colours: tuple[Colour, ...] = ((236, 62, 58), (255, 206, 40), (40, 160, 220))
    for wide, colour in ((11.6, colours[0]), (8.0, colours[1]), (3.4, colours[2])):
        rim = wide > 11
        y, tall = -20.4, 10.6
        pen.curve(
            [
                (0, y - tall),
                (wide * 0.75, y - tall * 0.75),
                (wide, y),
                (wide * 0.7, y + tall * 0.62),
                (wide * 0.3, y + tall),
                (-wide * 0.3, y + tall),
                (-wide * 0.7, y + tall * 0.62),
                (-wide, y),
                (-wide * 0.75, y - tall * 0.75),
            ],
            colour,
            rim,
        )


def tree(pen: Pen, pose: Pose) -> None:
    """A round green tree with red apples; its crown sways."""
    dances = pose.action == "dancing"
    sway = (3.2 if dances else 0.8) * pose.wave()
    brown: Colour = (132, 82, 46)
    pen.curve([(-4.4, 0), (-2.2, -4), (-2.2 + 0.3 * sway, -11), (2.4 + 0.3 * sway, -11), (2.2, -4), (4.6, 0)], brown)
    pen.layer()
    green: Colour = (58, 160, 66)
    if dances:
        for side in (-1, 1):
            lift = 3.5 * pose.wave(1.6 * side)
            pen.limb([(side * 2, -10), (side * 8 + sway * 0.5, -11), (side * 12.5 + sway, -14 - lift)], 1.8, brown)
            pen.disc(side * 12.8 + sway, -14.6 - lift, 2.6, green)
        pen.layer()
    crown = (
        (-6.4, -14.6, 5.6),
        (6.6, -14.6, 5.6),
        (-4.4, -20.4, 5.8),
        (4.8, -20.6, 5.8),
        (0, -17, 7.4),
        (0.2, -24, 5.2),
    )
    for x, y, radius in crown:
        pen.disc(x + sway * (-y - 8) / 14, y, radius, green)
    for x, y, radius in ((-3.6, -21, 3.0), (1.4, -24.6, 2.4), (4.8, -18.6, 2.4)):
        pen.disc(x + sway * (-y - 8) / 14, y, radius, (104, 196, 92), rim=False)
    for x, y in ((-6.6, -14.4), (5.8, -22), (1.0, -15.6), (-2.6, -25), (8.0, -13.6)):
        pen.disc(x + sway * (-y - 8) / 14, y, 1.3, _RED, rim=False)
