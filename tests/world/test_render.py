"""Pixels: exact colours, soft edges, and motions that a plain centroid can follow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from flickbook.world import render, scenes
from flickbook.world.blobs import label
from flickbook.world.scenes import BACKGROUNDS, COLOURS, Actor, Scene


def film(motion: str, shape: str = "square", size: str = "medium", seed: int = 3) -> np.ndarray:
    return render.render(Scene("core", seed, "black", (Actor(shape, "yellow", motion, size),)))


def centres(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and area of what is yellow in each frame."""
    weight = frames[..., 0].astype(float) - 12
    area = weight.sum((1, 2))
    axis = np.arange(scenes.SIZE)
    return (weight.sum(1) @ axis) / area, (weight.sum(2) @ axis) / area, area / 238


@pytest.mark.parametrize("group", ["core", "pair", "digits", "views"])
def test_a_film_has_the_stated_form_and_repeats(group: str) -> None:
    scene = scenes.sample(11, group)
    frames = render.render(scene)
    assert frames.shape == (16, 128, 128, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, render.render(scene))
    assert not np.array_equal(frames, render.render(replace(scene, seed=12)))


@pytest.mark.parametrize("group", ["core", "pair", "digits"])
def test_objects_stay_inside_the_frame_over_a_plain_background(group: str) -> None:
    for seed in range(60):
        scene = scenes.sample(seed, group)
        frames = render.render(scene)
        ground = np.array(BACKGROUNDS[scene.background])
        for edge in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]):
            assert np.array_equal(edge, np.broadcast_to(ground, edge.shape))


def test_the_object_has_exactly_its_colour_and_a_soft_edge() -> None:
    frame = film("left", "circle")[0].reshape(-1, 3)
    ground, paint = np.array(BACKGROUNDS["black"]), np.array(COLOURS["yellow"])
    inside, outside = (frame == paint).all(1), (frame == ground).all(1)
    assert inside.sum() > 1000
    assert 40 < (~inside & ~outside).sum() < 250


@pytest.mark.parametrize(("size", "radius"), scenes.SIZES.items())
def test_a_circle_covers_the_area_of_its_radius(size: str, radius: int) -> None:
    assert centres(film("up", "circle", size))[2] == pytest.approx(math.pi * radius**2, rel=0.02)


def test_a_ring_has_a_hole_of_background() -> None:
    _, _, alpha = render.mask("ring", 50.0, 50.0, 20.0, 0.0)
    middle = alpha.shape[0] // 2
    assert alpha[middle, middle] == 0
    assert alpha.sum() == pytest.approx(math.pi * 400 * (1 - 0.55**2), rel=0.03)


@pytest.mark.parametrize(("shape", "turns"), [("square", 4), ("cross", 4), ("triangle", 3), ("star", 5)])
def test_a_shape_repeats_after_its_symmetry_and_not_before(shape: str, turns: int) -> None:
    _, _, start = render.mask(shape, 50.0, 50.0, 20.0, 0.0)
    _, _, whole = render.mask(shape, 50.0, 50.0, 20.0, 2 * math.pi / turns)
    _, _, half = render.mask(shape, 50.0, 50.0, 20.0, math.pi / turns)
    assert np.abs(start - whole).mean() < 0.01 < 0.03 < np.abs(start - half).mean()


def test_the_ten_digits_differ() -> None:
    drawn = [render.mask(digit, 50.0, 50.0, 27.0, 0.0)[2] for digit in scenes.DIGITS]
    for k, first in enumerate(drawn):
        assert first.sum() > 200
        for second in drawn[k + 1 :]:
            assert np.abs(first - second).sum() > 150


@pytest.mark.parametrize("size", list(scenes.SIZES))
@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_lines_go_where_they_say(motion: str, axis: int, sign: int, size: str) -> None:
    for seed in range(5):
        track = centres(film(motion, size=size, seed=seed))
        steps = sign * np.diff(track[axis])
        assert (steps > 1).all() and steps.sum() > 38
        assert np.ptp(track[1 - axis]) < 0.5


def test_a_bounce_lands_more_than_once() -> None:
    _, y, _ = centres(film("bouncing"))
    turns = np.diff(np.sign(np.diff(y)))
    assert (turns < 0).sum() >= 1 and (turns > 0).sum() >= 2  # y points down: a landing is a maximum


def test_an_orbit_goes_once_round_at_one_distance() -> None:
    x, y, _ = centres(film("circling"))
    angle = np.unwrap(np.arctan2(y - 64, x - 64))
    assert abs(angle[-1] - angle[0]) == pytest.approx(2 * math.pi, rel=0.02)
    assert np.hypot(x - 64, y - 64) == pytest.approx(30, abs=1)


@pytest.mark.parametrize(("motion", "sign"), [("growing", 1), ("shrinking", -1)])
def test_growth_changes_the_area_and_not_the_place(motion: str, sign: int) -> None:
    x, y, area = centres(film(motion))
    assert (sign * np.diff(area) > 0).all()
    assert max(area) / min(area) == pytest.approx((1.75 / 0.42) ** 2, rel=0.1)
    assert np.ptp(x) < 1 and np.ptp(y) < 1


def test_a_spin_changes_the_picture_and_not_the_place_or_the_area() -> None:
    frames = film("spinning", "triangle")
    x, y, area = centres(frames)
    assert np.ptp(x) < 1 and np.ptp(y) < 1 and np.ptp(area) < 0.02 * area.mean()
    assert all(np.abs(a.astype(int) - b).mean() > 1 for a, b in zip(frames[:-1], frames[1:].astype(int), strict=True))


def test_two_objects_never_touch() -> None:
    for seed in range(60):
        scene = scenes.sample(seed, "pair")
        frames = render.render(scene)
        away = (frames != np.array(BACKGROUNDS[scene.background], np.uint8)).any(-1)
        parts = label(away)
        assert [len(np.unique(part[part > 0])) for part in parts] == [2] * 16
