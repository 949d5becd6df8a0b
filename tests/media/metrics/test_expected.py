"""What a prompt asks for is no fault."""

from __future__ import annotations

import numpy as np
import pytest

from flickbook.media.metrics.expected import expected
from flickbook.media.metrics.quality import faults, scores
from flickbook.world.captions import captions
from flickbook.world.render import render
from flickbook.world.scenes import Actor, Scene


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("a peaceful sunset over mountain ranges", {"constant"}),
        ("the sun is setting behind the mountains", {"constant"}),
        ("a square turning into a circle", {"constant"}),
        ("a wall that goes from red to yellow", {"constant"}),
        ("a candle in a thunderstorm", {"steady"}),
        ("a foggy street", {"sharp"}),
        ("a red circle turning around on a blue background", set()),
        ("a dimension of sunsetters", set()),
    ],
)
def test_words_of_a_prompt_make_scores_expected(prompt: str, names: set[str]) -> None:
    assert expected([prompt]) == names


def test_different_prompts_make_a_change_expected() -> None:
    assert expected(["a red circle", "a yellow circle"]) == {"constant", "seamless"}
    assert expected(["a red circle", "A red circle "]) == expected([]) == set()


def test_a_picture_without_the_colours_of_the_prompt_explains_a_drift_and_any_other_does_not() -> None:
    picture = render(Scene("core", 5, "blue", (Actor("circle", "red", "left"),)))[0]
    assert expected(["a green circle on a yellow background"], picture) == {"constant"}
    assert expected(["a red circle moving left on a blue background"], picture) == set()
    assert expected(["a circle moving left"], picture) == set()


def test_drift_is_no_fault_of_a_sunrise_but_of_a_circle() -> None:
    scene = Scene("sunrise", 1, traits={"direction": "rising", "sky": "purple", "weather": "misty"})
    found = scores(render(scene), 8)
    assert any("drift" in line for line in faults(found, 16))
    assert faults(found, 16, expected([captions(scene)[0]])) == []
    assert any("drift" in line for line in faults(found, 16, expected(["a red circle moving left"])))


def test_other_faults_of_a_sunset_are_reported() -> None:
    scene = Scene("sunrise", 1, traits={"direction": "setting", "sky": "orange", "weather": "clear"})
    expectation = expected([captions(scene)[0]])
    gain = np.where(np.arange(16) % 2, 1.1, 0.9)[:, None, None, None]
    flickers = np.clip(render(scene) * gain, 0, 255).astype(np.uint8)
    assert any("flickers" in line for line in faults(scores(flickers, 8), 16, expectation))
