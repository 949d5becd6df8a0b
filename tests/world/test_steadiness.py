"""Steadiness: true films have it, and each kind of wobble costs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flickbook.world.captions import captions
from flickbook.world.render import render
from flickbook.world.scenes import SIZES, Actor, Scene, sample
from flickbook.world.steadiness import steadiness, steadiness_of

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


def test_a_film_of_another_size_or_rate_is_read_as_one_of_the_world() -> None:
    (prompt, *_), usual = captions(PLAIN), steadiness(film())
    assert steadiness_of(prompt, film(), 8) == usual
    large = film().repeat(2, 1).repeat(2, 2)
    assert steadiness_of(prompt, large, 8) == usual
    assert steadiness_of(prompt, large.repeat(3, 0), 24) == usual, "frames that interpolation adds"
    assert steadiness_of(prompt, np.concatenate([film()] * 4), 8) == usual, "a long film, in stretches"
    assert steadiness_of(prompt, film()[:1], 8) is None, "a picture has no frames to compare"


def test_only_a_film_that_should_have_objects_can_lack_them() -> None:
    (prompt, *_), ground = captions(PLAIN), np.full((16, 128, 128, 3), 90, np.uint8)
    assert steadiness_of(prompt, ground, 8) == 0.0
    for group in ("book", "views"):
        scene = sample(910_000_000, group)
        assert steadiness_of(captions(scene)[0], render(scene), 8) is None
    assert steadiness_of("a dragon", film(), 8) is None
