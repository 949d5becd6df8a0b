"""Variations of films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flickbook.engine.films import films, run_options_of
from flickbook.engine.generate import generate
from flickbook.engine.reproduction.rerun import varied
from flickbook.engine.sequences.sequence import sequence
from flickbook.engine.treat import polish
from flickbook.errors import MediaError, ModelNotFound, RequestError
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

PROMPT = "a red circle moving left on a blue background"
SHORT = {"num_inference_steps": 2, "num_frames": 4, "seed": 7}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = generate(PROMPT, **SHORT, guidance_scale=3.5, negative_prompt="blur", interpolate=2)  # type: ignore[arg-type]
    return made.save(tmp_path_factory.mktemp("films") / "film.mp4")


def plan_of(path: Path) -> Plan:
    plan = carried(path)[0].plan
    assert isinstance(plan, Plan)
    return plan


def test_rerun_without_changes_keeps_the_plan(film: Path) -> None:
    request, _ = varied(film, {})
    assert resolve(request) == plan_of(film)


def test_rerun_changes_only_given_options(film: Path) -> None:
    request, _ = varied(film, {"seed": 8, "prompt": "a green star", "fps": None})
    expected = plan_of(film).model_copy(update={"seed": 8, "prompt": "a green star"})
    assert resolve(request) == expected


@pytest.mark.slow
def test_a_film_with_other_loras_does_not_continue_from_the_latents_of_the_first_one(tmp_path: Path) -> None:
    before = generate(PROMPT, **{**SHORT, "num_frames": 9})  # type: ignore[arg-type]
    assert before.latents is not None
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(before.latents)
    asked = Request.of(prompt=PROMPT, **{**SHORT, "num_frames": 16}, latents=str(kept))
    plan = resolve(asked)
    made = next(films([plan], run_options_of(plan, asked))).save(tmp_path / "b.mp4")
    assert varied(made, {"seed": 8}, [kept])[0].latents == str(kept)
    request, _ = varied(made, {"loras": (("ink.safetensors", 1.0),)})
    assert (request.latents, request.overlap, request.loras) == (None, None, (("ink.safetensors", 1.0),))


def test_turbo_has_steps_and_guidance_of_its_own(film: Path) -> None:
    request, _ = varied(film, {"speed": "turbo"})
    assert request.speed == "turbo"
    assert (request.num_inference_steps, request.guidance_scale, request.scheduler) == (None, None, None)
    request, _ = varied(film, {"speed": "balanced"})
    assert request.num_inference_steps == plan_of(film).num_inference_steps
    request, _ = varied(film, {"speed": "turbo", "num_inference_steps": 8})
    assert request.num_inference_steps == 8


def test_the_format_follows_the_new_file_name(film: Path) -> None:
    request, _ = varied(film, {"container": "webm"})
    assert resolve(request).codec == "vp9"


def test_a_chosen_encoding_is_kept_unless_changed(tmp_path: Path) -> None:
    clip = generate(PROMPT, **SHORT)  # type: ignore[arg-type]
    made = clip.save(tmp_path / "film.mp4", codec="h264", quality="lossless")
    same = resolve(varied(made, {"seed": 8, "container": "mp4"})[0])
    assert (same.codec, same.quality, same.pixel_format) == ("h264", "lossless", "rgb24")
    lossy = resolve(varied(made, {"quality": 80})[0])
    assert (lossy.codec, lossy.quality, lossy.pixel_format) == ("h264", 80, "yuv420p")
    other = resolve(varied(made, {"codec": "av1"})[0])
    assert (other.codec, other.quality) == ("av1", 65)


def test_a_film_of_a_removed_model_can_be_rerun_with_another(film: Path, tmp_path: Path) -> None:
    recipe, run = carried(film)
    gone = recipe.model_copy(update={"plan": recipe.plan.model_copy(update={"model": "gone"})})
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    gone = gone.model_copy(update={"frames_sha256": frames_sha256(frames)})
    path = Clip(frames, 8.0, gone, run).save(tmp_path / "gone.mp4")
    assert resolve(varied(path, {"model": "builtin"})[0]).prompt == PROMPT
    with pytest.raises(ModelNotFound):
        varied(path, {"seed": 8})


def test_another_model_uses_its_own_defaults(film: Path) -> None:
    request, _ = varied(film, {"model": "text-to-video-ms-1.7b"})
    plan = resolve(request)
    assert (plan.width, plan.prompt, plan.seed, plan.polish.interpolate) == (256, PROMPT, 7, 2)


def test_the_input_image_is_found_by_its_hash(tmp_path: Path) -> None:
    picture = tmp_path / "begin.png"
    Image.new("RGB", (64, 64), (9, 200, 9)).save(picture)
    made = generate(PROMPT, **SHORT, image=picture).save(tmp_path / "film.mp4")  # type: ignore[arg-type]
    moved = tmp_path / "moved.png"
    picture.rename(moved)
    request, _ = varied(made, {"seed": 9})
    assert request.image == str(moved)
    moved.unlink()
    with pytest.raises(MediaError, match=f"image with SHA-256 {plan_of(made).image} was not found"):
        varied(made, {"seed": 9})
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(other)
    assert varied(made, {"image": str(other)})[0].image == str(other)


def test_polished_files_and_sequences_cannot_be_rerun(film: Path, tmp_path: Path) -> None:
    polished = polish(film, speed=2).save(tmp_path / "fast.mp4")
    with pytest.raises(RequestError, match="polished from a file"):
        varied(polished, {"seed": 8})
    clip = sequence(["a red circle", "a blue star"], frames_per=1, num_inference_steps=2, seed=1)
    with pytest.raises(RequestError, match="several prompts"):
        varied(clip.save(tmp_path / "sequence.mp4"), {"seed": 8})
