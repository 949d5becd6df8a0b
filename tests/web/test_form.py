"""The forms: within the limits of each model, and able to hold any Plan."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from flickbook import catalogue
from flickbook.engine.sequences.sequence import plan_of
from flickbook.resolution import resolve
from flickbook.spec import Request
from flickbook.web import form

MODELS = [each.name for each in catalogue.list_models()]


@pytest.mark.parametrize("name", MODELS)
def test_each_models_own_values_lie_within_its_limits(name: str) -> None:
    model = catalogue.find(name)
    for field, limits in form.ranges(model).items():
        if "minimum" in limits:
            gr.Slider(**limits)  # Gradio refuses one whose ends are equal
            assert limits["minimum"] <= limits["value"] <= limits["maximum"], field
        if field == "num_frames":
            low, step = limits["minimum"], limits["step"]
            assert low > 1 and (limits["value"] - low) % step == 0
            if "text" in model.inputs and not model.needs:
                resolve(Request.of(prompt="a film", model=name, num_frames=low))
        if "choices" in limits:
            assert limits["value"] in [each[1] if isinstance(each, tuple) else each for each in limits["choices"]]
    for size in form.sizes(model):
        width, height = map(int, size.split("x"))
        if "text" in model.inputs and not model.needs:
            resolve(Request.of(prompt="a film", model=name, width=width, height=height))


def test_latent_upsampling_is_offered_as_far_as_the_model_can_do_it() -> None:
    offered = {name: form.ranges(catalogue.find(name))["latent_upsample"] for name in MODELS}
    kinds = {name: [value for _, value in each["choices"]] for name, each in offered.items() if each["visible"]}
    able = ("ltx-video-13b-distilled", "ltx-2.3-distilled")
    assert kinds == {"ltx-2": ["", "plain"], **dict.fromkeys(able, ["", "plain", "refine"])}


def test_every_model_that_makes_films_or_pictures_can_be_chosen() -> None:
    films, pictures = ({name for _, name in found} for found in (form.film_models(), form.picture_models()))
    assert films | pictures == set(MODELS)
    assert "sd15" in pictures - films and "stable-video-diffusion" in films - pictures


@pytest.mark.parametrize("name", [name for name in MODELS if catalogue.find(name).prompted])
def test_each_model_with_words_has_examples(name: str) -> None:
    assert catalogue.find(name).examples


@pytest.fixture
def fields() -> dict[str, Any]:
    model = catalogue.find("builtin")
    with gr.Blocks(analytics_enabled=False):
        found: dict[str, Any] = {
            "prompt": form.prompt_box(""),
            "model": form.model_box(form.film_models(), "builtin"),
        }
        return found | form.numbers(model) | form.seed() | form.details(model) | form.finishing()


def test_a_plan_fills_the_form(fields: dict[str, Any]) -> None:
    plan = resolve(
        Request.of(prompt="a blue square", seed=7, num_frames=24, guidance_scale=3.0, fps=12.0, container="gif")
    )
    updates = form.filled(plan.model_dump(mode="json"), fields)
    shown = {name: updates[component].get("value") for name, component in fields.items() if component in updates}
    assert (shown["prompt"], shown["seed"], shown["keep_seed"]) == ("a blue square", "7", True)
    assert (shown["num_frames"], shown["guidance_scale"], shown["fps"]) == (24, 3.0, 12.0)
    assert (shown["size"], shown["container"]) == ("128x128", "gif")
    assert shown["quality"] == "100"


def test_what_a_form_cannot_hold_is_empty(fields: dict[str, Any]) -> None:
    plan = resolve(Request.of(prompt="a blue square", container="mkv")).model_dump(mode="json")
    updates = form.filled(plan | {"seed": None}, fields)
    shown = {name: updates[fields[name]].get("value") for name in ("seed", "keep_seed", "quality", "speed")}
    assert shown == {"seed": "", "keep_seed": False, "quality": "lossless", "speed": "exact"}
    older = {name: value for name, value in plan.items() if name != "speed"}
    assert form.filled(older, fields)[fields["speed"]]["value"] == "exact"


def test_a_plan_of_a_model_that_is_not_known_fills_what_it_can(fields: dict[str, Any]) -> None:
    plan = resolve(Request.of(prompt="a blue square")).model_dump(mode="json") | {"model": "of-somebody-else"}
    updates = form.filled(plan, fields)
    assert fields["model"] not in updates and updates[fields["prompt"]]["value"] == "a blue square"


def test_another_model_changes_the_limits(fields: dict[str, Any]) -> None:
    updates = form.changed("text-to-video-ms-1.7b", fields)
    assert updates[fields["guidance_scale"]]["value"] == 9.0
    assert updates[fields["size"]]["choices"][0] == "256x256"


def test_a_sequence_fills_its_own_form(fields: dict[str, Any]) -> None:
    plan = plan_of(["a red circle", "a blue square"], Request.of(prompt="", seed=3), frames_per=6, drift=0.5)
    with gr.Blocks(analytics_enabled=False):
        own = fields | {"prompts": gr.Textbox(), "frames_per": gr.Slider(1, 240), "drift": gr.Slider(0, 1)}
    updates = form.filled(json.loads(plan.to_json()), own)
    assert updates[own["prompts"]]["value"] == "a red circle\na blue square"
    assert (updates[own["frames_per"]]["value"], updates[own["drift"]]["value"]) == (6, 0.5)


def test_the_codecs_offered_are_those_that_every_machine_has_and_a_format_has_a_choice_of() -> None:
    assert set(form.CODECS) == {"h264", "h265", "av1", "vp9", "ffv1"}


def test_the_recommended_settings_are_shown_and_filled_in() -> None:
    model = catalogue.find("text-to-video-ms-1.7b")
    assert "25 steps, guidance 9" in form.ranges(model)["hint"]["value"]
    fields = {name: name for name in ("num_inference_steps", "guidance_scale", "fps", "negative_prompt", "seed")}
    filled = {name: change["value"] for name, change in form.recommended(model.name, fields).items()}
    assert filled == {
        "num_inference_steps": 25,
        "guidance_scale": 9.0,
        "fps": 8.0,
        "negative_prompt": "blurry, low quality, distorted, artifacts, flicker, jitter",
    }
