"""Steadiness: true films have it, and each kind of wobble costs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flickbook.world.render import render
from flickbook.world.scenes import SIZES, Actor, Scene, sample
from flickbook.world.steadiness import steadiness, steadiness_if_plain

PLAIN = Scene("core", 4, "grey", (Actor("star", "red", "left", "large"),))


def film(**changes: str) -> np.ndarray:
    return render(replace(PLAIN, actors=(replace(PLAIN.actors[0], **changes),)))


def score(frames: np.ndarray) -> float:
    found = steadiness(frames)
    assert found is not None
    return found


@pytest.mark.parametrize("group", ["core", "pair", "several", "digits"])
def test_true_films_are_steady(group: str) -> None:
    found = [score(render(sample(910_000_000 + seed, group))) for seed in range(8)]
    assert min(found) > 0.88 and np.mean(found) > 0.92


@pytest.mark.parametrize("motion", ["spinning", "growing", "shrinking", "bouncing"])
def test_motions_are_no_wobble(motion: str) -> None:
    assert score(film(motion=motion, size="" if motion in ("growing", "shrinking") else "medium")) > 0.88


@pytest.mark.parametrize(("field", "other"), [("shape", "circle"), ("colour", "pink"), ("size", "medium")])
def test_each_kind_of_wobble_costs_it(field: str, other: str) -> None:
    assert field != "size" or other in SIZES
    steady, changed = film(), film(**{field: other})
    wobbling = np.stack([(steady, changed)[frame % 2][frame] for frame in range(16)])
    assert score(wobbling) < score(steady) - 0.2


def test_an_object_that_vanishes_for_some_frames_costs_it() -> None:
    blinking = film()
    ground = blinking[0, 0, 0]
    blinking[4:7] = ground
    assert score(blinking) < score(film()) - 0.15


def test_a_film_without_objects_has_none() -> None:
    assert steadiness(np.full((16, 128, 128, 3), 90, np.uint8)) is None


def test_a_film_of_another_size_is_read_at_the_size_of_the_world() -> None:
    large = film().repeat(2, 1).repeat(2, 2)
    assert steadiness_if_plain(large) == steadiness_if_plain(film()) == steadiness(film())
    wide = np.pad(large, ((0, 0), (0, 0), (40, 40), (0, 0)), "edge")
    assert steadiness_if_plain(np.repeat(wide, 2, 0)) is not None, "the square in the middle, 16 frames"
    assert steadiness_if_plain(film()[:1]) is None, "a picture has no frames to compare"


def test_a_film_without_a_plain_background_has_none() -> None:
    films = [render(sample(910_000_000 + seed, "book")) for seed in range(8)]
    assert all(steadiness_if_plain(each) is None for each in films)
    assert any(steadiness(each) is not None for each in films), "the background is what decides"
