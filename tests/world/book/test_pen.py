"""The pen: marks land where they should, smooth, with a rim, in layers."""

from __future__ import annotations

import math

import numpy as np

from flickbook.world.book.pen import Pen, mix, sheet, shrink
from flickbook.world.book.sky import plain

RED, INK = (255, 0, 0), (0, 0, 255)


def drawn(pen: Pen) -> np.ndarray:
    """What a pen drew, one value for each unit: (64, 64, 3)."""
    picture = sheet()
    pen.stamp(picture)
    return shrink(picture).reshape(64, 2, 64, 2, 3).mean((1, 3)).round().astype(int)


def test_a_disc_has_its_place_and_area_and_a_soft_edge() -> None:
    pen = Pen(plain)
    pen.disc(20, 30, 8, RED)
    red = drawn(pen)[..., 0]
    assert red.shape == (64, 64) and red[29, 19] == 255 and red[29, 35] == 0
    assert abs(red.sum() / 255 - math.pi * 64) < 12
    assert ((red > 20) & (red < 235)).any()


def test_a_limb_is_as_wide_as_it_says() -> None:
    pen = Pen(plain)
    pen.limb([(10, 32), (54, 32)], 6, RED)
    assert abs(drawn(pen)[:, 30, 0].sum() / 255 - 6) < 0.6


def test_a_turned_scaled_and_mirrored_pen_moves_its_marks() -> None:
    pen = Pen(plain)
    pen.at(32, 32, math.pi / 2).disc(10, 0, 3, RED)
    pen.at(32, 32, size=2).disc(-10, 0, 1.5, RED)
    pen.at(32, 32, wide=-1).disc(-20, -20, 3, RED)
    red = drawn(pen)[..., 0]
    assert red[42, 32] == red[32, 12] == red[12, 52] == 255
    assert red[32, 42] == 0


def test_a_rim_goes_around_a_layer_and_not_between_its_marks() -> None:
    together, apart = Pen(plain, INK), Pen(plain, INK)
    for pen in (together, apart):
        pen.oval(26, 32, 10, 10, RED)
        if pen is apart:
            pen.layer()
        pen.oval(38, 32, 10, 10, RED)
    one, two = drawn(together), drawn(apart)
    assert one[32, 15, 2] > 40 and one[32, 32, 2] == 0
    assert two[32, 26:30, 2].max() > 40


def test_a_curve_passes_through_its_points() -> None:
    pen = Pen(plain)
    pen.curve([(12, 12), (52, 12), (52, 52), (12, 52)], RED)
    red = drawn(pen)[..., 0]
    assert red[32, 32] == 255 and red[14, 14] > 0 and red[2, 2] == 0
    assert red[9, 32] == 255  # rounder than the square through its points


def test_a_stamped_pen_is_empty_and_colours_mix() -> None:
    pen = Pen(plain)
    pen.disc(32, 32, 8, RED)
    assert drawn(pen).any() and not drawn(pen).any()
    assert mix((0, 0, 0), (200, 100, 50), 0.5) == (100, 50, 25)
