"""Scenes: exact, possible, and never a held-out pair where training looks."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.world import scenes
from flickbook.world.scenes import Actor

SEEDS = range(600)
GROUPS = ("core", "pair", "digits")


@pytest.mark.parametrize("group", [*GROUPS, "views"])
def test_a_seed_draws_the_same_scene_again_and_another_seed_another(group: str) -> None:
    assert scenes.sample(7, group) == scenes.sample(7, group)
    assert len({repr(scenes.sample(seed, group)).split("background")[1] for seed in range(40)}) > 20


@pytest.mark.parametrize("group", GROUPS)
def test_training_never_sees_a_held_out_pair(group: str) -> None:
    actors = [actor for seed in SEEDS for actor in scenes.sample(seed, group).actors]
    assert not {(a.colour, a.shape) for a in actors} & scenes.HELD_OUT_COLOUR_SHAPE
    assert not {(a.shape, a.motion) for a in actors} & scenes.HELD_OUT_SHAPE_MOTION


def test_held_out_scenes_show_only_held_out_pairs_and_all_of_them() -> None:
    actors = [scenes.sample(seed, "core", heldout=True).actors[0] for seed in SEEDS]
    assert all(scenes.held_out(actor) for actor in actors)
    assert {(a.colour, a.shape) for a in actors} >= scenes.HELD_OUT_COLOUR_SHAPE
    assert {(a.shape, a.motion) for a in actors} >= scenes.HELD_OUT_SHAPE_MOTION


def test_every_word_of_a_held_out_pair_is_learned_from_others() -> None:
    for colour, shape in scenes.HELD_OUT_COLOUR_SHAPE:
        assert colour in scenes.COLOURS and shape in scenes.SHAPES
    for shape, motion in scenes.HELD_OUT_SHAPE_MOTION:
        assert shape in scenes.SHAPES and motion in scenes.MOTIONS
    actors = [scenes.sample(seed).actors[0] for seed in SEEDS]
    assert {a.colour for a in actors} == set(scenes.COLOURS)
    assert {a.shape for a in actors} == set(scenes.SHAPES)
    assert {a.motion for a in actors} == set(scenes.MOTIONS)
    assert {a.size for a in actors} == {*scenes.SIZES, ""}
    assert {scenes.sample(seed).background for seed in SEEDS} == set(scenes.BACKGROUNDS)


def test_words_are_drawn_about_equally_often() -> None:
    times = Counter(scenes.sample(seed).background for seed in range(1200))
    assert min(times.values()) > 0.6 * max(times.values())


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), group=st.sampled_from(GROUPS), heldout=st.booleans())
def test_every_seed_draws_a_scene_that_a_picture_can_show(seed: int, group: str, heldout: bool) -> None:
    scene = scenes.sample(seed, group, heldout)
    assert scene.kind == group and scene.seed == seed and len(scene.actors) == (2 if group == "pair" else 1)
    assert all(scenes.possible(actor, scene.background) for actor in scene.actors)


def test_two_objects_differ_in_colour_and_move_along_one_axis() -> None:
    for seed in range(200):
        first, second = scenes.sample(seed, "pair").actors
        assert first.colour != second.colour
        assert (first.motion in ("left", "right")) == (second.motion in ("left", "right"))


@pytest.mark.parametrize(
    ("actor", "background", "shown"),
    [
        (Actor("circle", "white", "left"), "white", False),
        (Actor("circle", "blue", "left"), "blue", False),
        (Actor("circle", "red", "spinning"), "black", False),
        (Actor("ring", "red", "spinning"), "black", False),
        (Actor("star", "red", "spinning"), "black", True),
        (Actor("circle", "blue", "left"), "black", True),
    ],
)
def test_what_cannot_be_seen_is_not_drawn(actor: Actor, background: str, shown: bool) -> None:
    assert scenes.possible(actor, background) is shown


def test_growing_and_shrinking_have_no_size_word() -> None:
    for seed in SEEDS:
        actor = scenes.sample(seed).actors[0]
        assert (actor.size == "") == (actor.motion in ("growing", "shrinking"))


def test_an_unknown_group_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="group=cats"):
        scenes.sample(0, "cats")


def test_all_pairs_are_the_default_and_draw_what_they_always_drew() -> None:
    drawn = "".join(
        repr(scenes.sample(seed, group))
        for group in ("core", "pair", "several", "digits", "views", "book")
        for seed in range(200)
    )
    digest = hashlib.sha256(drawn.encode()).hexdigest()
    assert digest == "eaa898ea117c0a284b547e524159306dad2737d862670e17a4bc1ee8aafe65bf"
    assert scenes.sample(3, "core", coverage=1.0) == scenes.sample(3)


@pytest.mark.parametrize("coverage", [0.25, 0.5, 0.75])
def test_a_smaller_coverage_shows_fewer_pairs_but_every_word(coverage: float) -> None:
    actors = [
        actor
        for group in ("core", "pair", "several")
        for seed in range(300)
        for actor in scenes.sample(seed, group, coverage=coverage).actors
    ]
    allowed = set(scenes.TRAINING_COLOUR_SHAPE[: round(coverage * len(scenes.TRAINING_COLOUR_SHAPE))])
    assert {(a.colour, a.shape) for a in actors} <= allowed
    assert {a.colour for a in actors} == set(scenes.COLOURS)
    assert {a.shape for a in actors} == set(scenes.SHAPES) and {a.motion for a in actors} == set(scenes.MOTIONS)
    assert scenes.sample(5, "core", True, coverage) == scenes.sample(5, "core", True), "the test stays the same"


def test_a_larger_coverage_contains_a_smaller_one() -> None:
    for pairs in (scenes.TRAINING_COLOUR_SHAPE, scenes.TRAINING_SHAPE_MOTION):
        assert len(set(pairs)) == len(pairs)
    assert not set(scenes.TRAINING_COLOUR_SHAPE) & scenes.HELD_OUT_COLOUR_SHAPE
    assert not set(scenes.TRAINING_SHAPE_MOTION) & scenes.HELD_OUT_SHAPE_MOTION
    assert len(scenes.TRAINING_COLOUR_SHAPE) == 40 and len(scenes.TRAINING_SHAPE_MOTION) == 46
