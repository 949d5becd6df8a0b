"""Prompts of the world read back, and what a film shows of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.world.agreement import Expectation, agreement, expectation
from flickbook.world.captions import brief_captions, captions
from flickbook.world.render import render
from flickbook.world.scenes import Actor, Scene, sample

GROUPS = ("core", "pair", "digits", "views")
RED = Scene("core", 3, "blue", (Actor("circle", "red", "left", "small"),))


def understood(prompt: str) -> Expectation:
    found = expectation(prompt)
    assert found is not None, prompt
    return found


@given(st.sampled_from(GROUPS), st.integers(0, 10_000), st.booleans())
def test_every_caption_parses_back_to_its_scene(group: str, seed: int, heldout: bool) -> None:
    scene = sample(seed, group, heldout)
    for prompt in captions(scene):
        back = understood(prompt).scene
        assert (back.kind, back.background, back.traits) == (scene.kind, scene.background, scene.traits)
        assert len(back.actors) == len(scene.actors)
        found = sorted((a.shape, a.colour, a.motion) for a in back.actors)
        assert found == sorted((a.shape, a.colour, a.motion) for a in scene.actors), prompt
        if group == "core":
            assert back.actors[0].size in ("", scene.actors[0].size)
            assert (back.actors[0].size != "") == (
                scene.actors[0].size in prompt.split() and scene.actors[0].size != ""
            )


@given(st.sampled_from(GROUPS), st.integers(0, 10_000))
def test_a_brief_caption_names_what_it_says_and_no_more(group: str, seed: int) -> None:
    scene = sample(seed, group)
    for prompt in brief_captions(scene):
        back = understood(prompt).scene
        assert back.kind == scene.kind and back.background in ("", scene.background)
        assert set(back.traits.items()) < set(scene.traits.items()) or not scene.traits
        for actor, real in zip(back.actors, scene.actors, strict=True):
            assert actor.shape == real.shape and actor.colour in ("", real.colour) and actor.motion in ("", real.motion)
            assert (actor.colour != "") == (real.colour in prompt.split()), prompt


def test_what_is_not_said_is_not_asked() -> None:
    assert understood("a circle on black").named == {"shape", "count", "background"}
    assert understood("a red circle").named == {"shape", "colour", "count"}
    whole = {"shape", "colour", "motion", "background", "count"}
    assert understood("a red circle moving left on a blue background").named == whole
    assert understood("a small red circle moving left on a blue background").named == whole | {"size"}
    assert understood("two shapes on black: a red star moving left, a blue ring moving right").named == whole
    # What grows has no size to hold.
    assert understood("a small red star growing on a blue background").named == whole
    assert understood("a digit 7 moving down").named == {"digit", "motion", "count"}
    assert understood("fish in a coral reef").named == {"scene"}


def test_capitals_commas_and_articles_do_not_matter() -> None:
    plain = understood("an orange star spinning on a black background")
    assert expectation("  An Orange Star   spinning on an black background. ") == plain
    assert expectation("a red circle sliding right blue background") is None  # "sliding right" stands in another form
    assert expectation("A red circle moving to the right blue background") == expectation(
        "a red circle moving to the right, blue background"
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a dog on a beach",
        "a grey circle on a blue background",
        "a red circle moving left on a purple background",
        "a white circle on white",
        "a red circle spinning on a black background",
        "a red digit 7 spinning on a black background",
        "the number eleven in red rising on a black background",
        "a red star moving in a square, blue background",
        "a red circle moving left on a blue background " * 50,
    ],
)
def test_what_the_judge_cannot_tell_is_not_judged(prompt: str) -> None:
    assert expectation(prompt) is None and agreement(prompt, render(RED)) is None


@given(st.text(max_size=300))
def test_no_text_makes_the_reader_fail(prompt: str) -> None:
    expectation(prompt)


@pytest.mark.parametrize("group", GROUPS)
def test_a_true_film_agrees_with_its_captions(group: str) -> None:
    for seed in range(2):
        scene = sample(seed, group)
        frames = render(scene)
        for prompt in (captions(scene)[seed], brief_captions(scene)[seed]):
            assert agreement(prompt, frames) == 1, prompt


def test_each_thing_that_is_not_as_asked_costs_its_share() -> None:
    frames = render(RED)
    for prompt, share in (
        ("a small red circle moving left on a blue background", 6 / 6),
        ("a small green circle moving left on a blue background", 5 / 6),
        ("a large green circle moving left on a blue background", 4 / 6),
        ("a red square moving right on a black background", 2 / 5),
        ("a red circle and a green star", 0.0),
        ("a red circle", 1.0),
        ("orange fish swimming left in a coral reef, blue water", 0.0),
    ):
        found = agreement(prompt, frames)
        assert found == pytest.approx(share), prompt


def test_of_two_objects_both_must_be_right() -> None:
    scene = Scene("pair", 0, "black", (Actor("star", "red", "left"), Actor("ring", "blue", "right")))
    frames = render(scene)
    assert agreement("a blue ring moving right and a red star moving left on a black background", frames) == 1
    assert agreement("a blue ring moving left and a red star moving left on a black background", frames) == 0.8


def test_other_sizes_and_lengths_are_judged_where_they_can_be() -> None:
    prompt = "a small red circle moving left on a blue background"
    frames = render(RED)
    assert agreement(prompt, frames.repeat(2, axis=1).repeat(2, axis=2)) == 1
    assert agreement(prompt, frames.repeat(2, axis=0)) == 1
    assert agreement(prompt, frames[:1]) == 1  # a picture shows no motion, and none is counted
    assert agreement(prompt, frames[:, :64]) is None
    view = sample(0, "views")
    assert agreement(captions(view)[0], render(view)[:8]) is None
    with pytest.raises(RequestError, match="frames"):
        agreement(prompt, frames / 255)
    with pytest.raises(RequestError, match="frames"):
        agreement(prompt, np.zeros((0, 128, 128, 3), np.uint8))
