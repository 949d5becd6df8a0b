"""The library's call: one film from a sentence, warm from then on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.clicks import heard, track, wav

import flickbook
from flickbook.catalogue import find
from flickbook.engine.films import films, steps_sheet
from flickbook.engine.generate import generate
from flickbook.engine.treat import polish
from flickbook.errors import (
    Cancelled,
    HubError,
    ModelNotFound,
    OutputError,
    RequestError,
    SchedulerMismatch,
    WeightsError,
)
from flickbook.media.clip import frames_sha256
from flickbook.spec import Plan, Recipe, Run, Step
from flickbook.world.detect import read
from flickbook.world.scenes import SHAPES

PROMPT = "a red circle moving left on a blue background"
SHORT: dict[str, Any] = {"num_frames": 4, "num_inference_steps": 3, "seed": 7}
MakePlan = Callable[..., Plan]


def test_generate_returns_a_clip_with_recipe_and_run() -> None:
    clip = generate(PROMPT, **SHORT)
    assert clip.frames.shape == (4, 128, 128, 3) and clip.frames.dtype == np.uint8 and clip.fps == 8
    assert clip.recipe is not None and clip.run is not None
    assert clip.recipe.plan == flickbook.resolve(flickbook.Request(prompt=PROMPT, **SHORT))
    assert clip.recipe.frames_sha256 == frames_sha256(clip.frames)
    assert set(clip.recipe.weights) == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert set(clip.run.seconds) >= {"encode", "denoise", "decode"} and clip.run.notes == []
    assert clip.run.peak_memory_bytes > 50_000_000
    assert clip.run.started_at <= clip.run.finished_at and clip.run.started_at.endswith("+00:00")


def test_the_second_call_reuses_the_warm_engine() -> None:
    generate(PROMPT, **SHORT)
    steps: list[Step] = []
    clip = generate(PROMPT, **SHORT, on_step=steps.append)
    assert [step.phase for step in steps] == ["encode", *3 * ["denoise"], *2 * ["decode"]]
    assert clip.run is not None and "load" not in clip.run.seconds


@pytest.mark.slow
def test_two_equal_runs_have_equal_recipes(tmp_path: Path) -> None:
    first, second = generate(PROMPT, **SHORT), generate(PROMPT, **SHORT)
    assert first.recipe is not None and second.recipe is not None
    assert first.recipe.to_json() == second.recipe.to_json()
    paths = [clip.save(tmp_path / name) for clip, name in ((first, "a.mp4"), (second, "b.mp4"))]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    other = generate(PROMPT, **{**SHORT, "seed": 8})
    assert other.recipe is not None and other.recipe.to_json() != first.recipe.to_json()


def test_a_track_is_under_the_film(tmp_path: Path) -> None:
    place = wav(tmp_path / "tone.wav", track([0.1], 0.25))
    clip = generate(PROMPT, **SHORT, audio=place, audio_fit="loop")
    assert clip.audio is not None and heard(clip.audio) == pytest.approx([0.1, 0.35], abs=0.001)
    assert clip.recipe is not None and clip.recipe.audio_sha256 == clip.audio.sha256
    silent = generate(PROMPT, **SHORT)
    assert silent.audio is None and np.array_equal(silent.frames, clip.frames)
    assert silent.recipe is not None and "audio" not in silent.recipe.to_json()
    with pytest.raises(TypeError, match="did you mean audio_fade"):
        generate(PROMPT, audio_fades=1)  # type: ignore[call-arg]


def test_a_recipe_has_no_field_of_a_run() -> None:
    """A field here stands inside the film: it may not change between two equal runs."""
    assert set(Recipe.model_fields) == {
        "schema_version",
        "plan",
        "placement",
        "weights",
        "frames_sha256",
        "audio_sha256",
        "shots",
        "versions",
        "device_name",
        "kernels",
    }
    assert not set(Recipe.model_fields) & set(Run.model_fields)


def test_one_frame_makes_an_image(tmp_path: Path) -> None:
    clip = generate(PROMPT, num_frames=1, num_inference_steps=2, seed=1)
    assert clip.frames.shape == (1, 128, 128, 3)
    with Image.open(clip.save(tmp_path / "still.png")) as image:
        assert np.array_equal(np.asarray(image), clip.frames[0])


def test_integers_are_accepted_for_float_options() -> None:
    clip = generate(PROMPT, **SHORT, guidance_scale=3, fps=12)
    assert clip.recipe is not None and clip.recipe.plan.guidance_scale == 3.0 and clip.fps == 12.0


def test_a_seed_is_drawn_and_can_be_read_from_the_recipe() -> None:
    fields = {**SHORT, "seed": None, "num_frames": 1}
    clip = generate(PROMPT, **fields)
    assert clip.recipe is not None
    again = generate(PROMPT, **{**fields, "seed": clip.recipe.plan.seed})
    assert again.recipe == clip.recipe


def test_unlearned_words_are_noted_in_the_run() -> None:
    clip = generate("a walrus juggling", **SHORT)
    assert clip.run is not None
    note = clip.run.notes[0]
    assert '"walrus", "juggling"' in note


@pytest.mark.slow
def test_films_of_several_shapes_are_yielded_in_order(plan: MakePlan) -> None:
    plans = [plan(), plan(seed=8), plan(num_frames=2), plan(seed=9)]
    clips = list(films(plans))
    assert [clip.recipe.plan for clip in clips if clip.recipe is not None] == plans
    assert [len(clip.frames) for clip in clips] == [4, 4, 2, 4]


def test_films_are_made_lazily(plan: MakePlan) -> None:
    steps: list[Step] = []
    made = films([plan(), plan(seed=8)], on_step=steps.append)
    next(made)
    assert [step.phase for step in steps if step.phase != "load"].count("encode") == 1


def test_cancelling_stops_generation(plan: MakePlan) -> None:
    steps: list[Step] = []
    with pytest.raises(Cancelled):
        list(films([plan()], on_step=steps.append, cancel=lambda: len(steps) >= 2))
    assert len(steps) == 2


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"num_frames": 999}, RequestError, "num_frames"),
        ({"num_inference_steps": -3}, RequestError, "num_inference_steps"),
        ({"width": 256}, RequestError, "width"),
        ({"seed": -1}, RequestError, "seed"),
        ({"guidance_scale": float("nan")}, RequestError, "guidance_scale"),
        ({"scheduler": "euler"}, SchedulerMismatch, "scheduler"),
        ({"model": "bultin"}, ModelNotFound, "model"),
        ({"num_frames": "4"}, RequestError, "num_frames"),
    ],
)
def test_invalid_options_are_refused_with_their_field(
    change: dict[str, Any], error: type[RequestError], field: str
) -> None:
    with pytest.raises(error) as caught:
        generate(PROMPT, **{**SHORT, **change})
    assert caught.value.field == field


def test_the_model_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_MODEL", "nothing-like-it")
    with pytest.raises(ModelNotFound):
        generate(PROMPT, **SHORT)
    assert generate(PROMPT, model="builtin", **SHORT).frames.shape[0] == 4


@pytest.mark.slow
def test_model_dir_names_another_directory(tmp_path: Path) -> None:
    """The same files in another directory: the same film, by the same hashes, and a Plan that knows no path."""
    home = shutil.copytree(find("builtin").path(), tmp_path / "elsewhere")
    (home / "manifest.json").unlink()
    made, usual = generate(PROMPT, model_dir=home, **SHORT), generate(PROMPT, **SHORT)
    assert made.recipe is not None and usual.recipe is not None
    assert made.recipe.frames_sha256 == usual.recipe.frames_sha256 and made.recipe.weights == usual.recipe.weights
    assert made.recipe.plan.revision != usual.recipe.plan.revision
    assert str(tmp_path) not in made.recipe.to_json()
    with pytest.raises(WeightsError, match="missing"):
        generate(PROMPT, model_dir=tmp_path / "missing", **SHORT)


@pytest.mark.slow
def test_unlearned_words_of_every_prompt_are_noted() -> None:
    turns = ((16, "a green walrus"),)
    clip = generate(PROMPT, num_frames=24, num_inference_steps=1, seed=1, prompt_at=turns)
    assert clip.run is not None and '"walrus"' in clip.run.notes[0] and clip.frames.shape[0] == 24


def test_a_missing_model_is_refused_with_the_pull_command() -> None:
    with pytest.raises(HubError, match="models pull text-to-video-ms-1.7b"):
        generate(PROMPT, model="text-to-video-ms-1.7b")


@pytest.mark.slow
def test_previews_make_a_steps_sheet(plan: MakePlan, tmp_path: Path) -> None:
    emerging: list[tuple[int, Any, Any]] = []

    def on_step(step: Step) -> None:
        if step.preview is not None:
            assert step.noisy is not None and step.noisy.shape == step.preview.shape
            emerging.append((step.index, step.preview[0], step.noisy[0]))

    list(films([plan()], on_step=on_step, previews=True))
    path = steps_sheet(plan(), emerging, tmp_path / "steps.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5
    with pytest.raises(OutputError):
        steps_sheet(plan(), emerging, tmp_path / "steps.png")


@pytest.mark.parametrize(
    ("word", "hint"), [("steps", "num_inference_steps"), ("guidance", "guidance_scale"), ("interpolat", "interpolate")]
)
def test_an_unknown_keyword_is_a_type_error_with_a_suggestion(word: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"generate\\(\\) got an unexpected .* '{word}'; did you mean {hint}\\?"):
        generate(PROMPT, **{word: 2})


@pytest.mark.parametrize("word", ["wibble", "wishes"])
def test_an_unknown_keyword_is_refused_before_any_work(word: str) -> None:
    with pytest.raises(TypeError, match=f"generate.*'{word}'$"):
        generate(PROMPT, lora="a/repository that nobody has", **{word: 2})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"polish.*'{word}'$"):
        polish("no such file.mp4", **{word: 2})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.model
def test_the_first_film_of_the_readme_shows_its_prompt() -> None:
    seen = read(generate(PROMPT, seed=7).frames, SHAPES)
    (shape,) = seen.objects
    assert (shape.colour, shape.shape, shape.motion) == ("red", "circle", "left") and seen.background == "blue"


@pytest.mark.model
@pytest.mark.slow
def test_the_background_has_the_requested_colour() -> None:
    """Another one than that of the film of the README."""
    clip = generate("a red circle moving left on a black background", seed=7)
    assert read(clip.frames, SHAPES).background == "black"
