"""Films made again from their files, and the verdict: real films, real changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from tests.loras import adapter, write

from flickbook import catalogue
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.films import RunOptions, films, forget
from flickbook.engine.generate import generate
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.engine.sequences.sequence import sequence
from flickbook.engine.treat import polish
from flickbook.errors import MediaError, RequestError
from flickbook.files import sha256
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.media.write import write as write_film
from flickbook.media.write import write_png
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Recipe, Request

PROMPT = "a red circle moving left on a blue background"
SHORT = {"num_inference_steps": 3, "seed": 7, "num_frames": 4}
Make = Callable[..., Path]


@cache
def generated(seed: int = 7) -> Clip:
    """The film that most tests start from, generated once: its frames must not be changed."""
    return generate(PROMPT, **{**SHORT, "seed": seed})  # type: ignore[arg-type]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return generated().save(tmp_path / "film.mp4")


def changed(path: Path, recipe: Recipe, frames: np.ndarray | None = None) -> Path:
    """A film with another recipe: its own frames, or those given, as if that recipe had made them."""
    clip = generated() if frames is None else Clip(frames, 8.0)
    recipe = recipe.model_copy(update={"frames_sha256": frames_sha256(clip.frames)})
    return Clip(clip.frames, clip.fps, recipe, clip.run).save(path, overwrite=True)


def test_an_unchanged_film_is_identical(film: Path) -> None:
    verdict = reproduce(film)
    assert (verdict.outcome, verdict.exit_code, verdict.causes) == ("identical", 0, ())
    assert verdict.psnr == float("inf"), "the files are equal, byte for byte"
    assert verdict.line() == "identical"


_SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in ("film.gif", "film.webp", "film.apng", "film.mkv")]


@pytest.mark.parametrize("name", ["film.webm", "shot-%02d.png", *_SLOW])
def test_every_film_container_reproduces_identically(name: str, tmp_path: Path) -> None:
    made = generated().save(tmp_path / name)
    verdict = reproduce(made)
    assert verdict.outcome == "identical", verdict.line()
    assert carried(made)[0].plan.container == {"%02d": "frames"}.get(name[5:9], Path(name).suffix[1:])


@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.avif", "still.webp"])
def test_every_image_container_reproduces_identically(name: str, tmp_path: Path) -> None:
    made = generate(PROMPT, **{**SHORT, "num_frames": 1}).save(tmp_path / name)  # type: ignore[arg-type]
    assert reproduce(made).outcome == "identical"


@pytest.mark.slow
def test_one_changed_byte_of_the_weights_is_named(film: Path, tmp_path: Path) -> None:
    """The weights say it themselves, and nothing is computed."""
    home = tmp_path / "model"
    shutil.copytree(catalogue.find("builtin").path(), home)
    made = generate(PROMPT, **SHORT, model_dir=home).save(tmp_path / "other.mp4")  # type: ignore[arg-type]
    assert reproduce(made, model_dir=home).outcome == "identical"
    weights = home / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    verdict = reproduce(made, model_dir=home)
    assert (verdict.outcome, verdict.exit_code) == ("differs", 11)
    assert "weights unet/diffusion_pytorch_model.safetensors have SHA-256" in verdict.line()
    recipe = carried(made)[0]
    assert verdict.line().count(recipe.weights["unet/diffusion_pytorch_model.safetensors"]) == 1


@pytest.mark.slow
def test_other_valid_weights_are_run_and_compared(film: Path, tmp_path: Path) -> None:
    home = tmp_path / "model"
    shutil.copytree(catalogue.find("builtin").path(), home)
    weights = home / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.weight"] = tensors["conv_out.weight"] * np.float32(0.6)
    save_file(tensors, weights)
    (home / "manifest.json").unlink()
    verdict = reproduce(film, model_dir=home)
    assert verdict.outcome == "differs" and verdict.psnr is not None and verdict.psnr < 40
    assert "differs because the weights unet/" in verdict.line() and "PSNR" in verdict.line()


@pytest.mark.slow
def test_another_library_version_is_named(film: Path, tmp_path: Path) -> None:
    recipe, _ = carried(film)
    versions = {**recipe.versions, "torch": "2.9.0"}
    older = recipe.model_copy(update={"versions": versions})
    other = generated(8).frames
    verdict = reproduce(changed(tmp_path / "older.mp4", older, other))
    assert verdict.exit_code == 11
    assert verdict.line().startswith(f"differs because torch is {recipe.versions['torch']} here, 2.9.0 in the recipe")
    # The same frames all the same: then it is identical, and says what is not as it was.
    same = reproduce(changed(tmp_path / "same.mp4", older))
    assert same.exit_code == 0 and "although torch is" in same.line()


def test_a_nearly_equal_film_is_the_same_with_its_psnr(film: Path, tmp_path: Path) -> None:
    frames = generated().frames.copy()
    frames[0, :8, :8] ^= 1
    verdict = reproduce(changed(tmp_path / "near.mp4", carried(film)[0], frames))
    assert (verdict.outcome, verdict.exit_code) == ("same", 10)
    assert verdict.line().startswith("same within PSNR ") and verdict.line().endswith(" dB")


@pytest.mark.parametrize(("library", "outcome"), [("", "differs"), ("av", "identical"), ("pillow", "identical")])
def test_changed_pixels_are_excused_only_if_another_library_version_wrote_the_film(
    film: Path, tmp_path: Path, library: str, outcome: str
) -> None:
    """The recipe's frames are reproduced exactly, and the film shows nearly the same ones."""
    sidecar = json.loads(Path(f"{film}.json").read_text(encoding="utf-8"))
    if library:
        sidecar["recipe"]["versions"][library] = "1.0"
    frames = generated().frames.copy()
    frames[0, :8, :8] ^= 3
    near = Clip(frames, 8.0).save(tmp_path / "near.mp4")
    Path(f"{near}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    verdict = reproduce(near)
    assert verdict.outcome == outcome and verdict.psnr is not None and 40 < verdict.psnr < float("inf")
    assert ("the file was changed after it was written" in verdict.line()) == (outcome == "differs")


def test_another_device_is_named(film: Path, tmp_path: Path) -> None:
    recipe, _ = carried(film)
    placement = recipe.placement.model_copy(update={"device": "cuda"})
    there = recipe.model_copy(update={"placement": placement, "device_name": "NVIDIA H200"})
    other = generated(8).frames
    verdict = reproduce(changed(tmp_path / "gpu.mp4", there, other))
    assert "the device is cpu (" in verdict.line() and "cuda (NVIDIA H200) in the recipe" in verdict.line()


def test_attention_that_an_earlier_version_computed_otherwise_is_named(film: Path, tmp_path: Path) -> None:
    recipe, _ = carried(film)
    kernels = {name: value for name, value in recipe.kernels.items() if name != "attention"}
    older = recipe.model_copy(update={"kernels": kernels})
    verdict = reproduce(changed(tmp_path / "older.mp4", older, generated(8).frames))
    assert "because the kernels' attention is fused here, products in the recipe" in verdict.line()
    placement = recipe.placement.model_copy(update={"device": "cuda"})
    there = older.model_copy(update={"placement": placement, "kernels": {"cuda": "13.0"}})
    verdict = reproduce(changed(tmp_path / "gpu.mp4", there, generated(8).frames))
    assert "attention" not in verdict.line()


@pytest.mark.slow
def test_a_film_from_an_image_needs_the_same_image(tmp_path: Path) -> None:
    picture = tmp_path / "begin.png"
    Image.new("RGB", (128, 128), (200, 30, 30)).save(picture)
    made = generate(PROMPT, **SHORT, image=picture).save(tmp_path / "film.mp4")  # type: ignore[arg-type]
    assert reproduce(made).outcome == "identical"
    recipe, _ = carried(made)
    assert isinstance(recipe.plan, Plan)

    Image.new("RGB", (128, 128), (200, 30, 31)).save(picture)
    was_changed = reproduce(made)
    assert was_changed.exit_code == 11 and was_changed.psnr is None
    assert "the image was changed" in was_changed.line() and recipe.plan.image in was_changed.line()

    picture.unlink()
    missing = reproduce(made)
    assert missing.exit_code == 11
    assert f"the image with SHA-256 {recipe.plan.image} was not found" in missing.line()

    elsewhere = tmp_path / "kept" / "begin.png"
    elsewhere.parent.mkdir()
    Image.new("RGB", (128, 128), (200, 30, 30)).save(elsewhere)
    assert reproduce(made, files=[elsewhere]).outcome == "identical"


def test_a_polished_film_is_reproduced_from_its_source(film: Path, tmp_path: Path) -> None:
    clip = polish(film, interpolate=2, upscale=2, upscaler="lanczos", text="hello")
    made = clip.save(tmp_path / "polished.mp4")
    assert clip.frames.shape[1:3] == (256, 256) and len(clip.frames) > 4
    verdict = reproduce(made)
    assert verdict.outcome == "identical", verdict.line()
    film.unlink()
    assert "the source with SHA-256" in reproduce(made).line()


@pytest.mark.slow
def test_a_film_generated_with_polish_is_identical(tmp_path: Path) -> None:
    command = {"prompt": PROMPT, **SHORT, "interpolate": 3, "steady": 1.0, "loop": "pingpong"}
    made = generate(**command).save(tmp_path / "smooth.mp4")  # type: ignore[arg-type]
    assert reproduce(made).outcome == "identical"


@pytest.mark.slow
def test_a_film_of_a_batch_is_reproduced_as_a_batch(tmp_path: Path) -> None:
    plans = [resolve(Request(prompt=PROMPT, **{**SHORT, "seed": seed})) for seed in (3, 4)]
    clips = list(films(plans, RunOptions(placement=Placement(batch=2))))
    assert clips[1].recipe is not None and clips[1].recipe.placement.batch == 2
    assert reproduce(clips[1].save(tmp_path / "second.mp4")).outcome == "identical"


@pytest.mark.slow
def test_frames_exchanged_under_a_recipe_are_detected(film: Path, tmp_path: Path) -> None:
    """The recipe alone would prove another film."""
    other = generated(8)
    forged = Clip(other.frames, other.fps, None, None).save(tmp_path / "forged.mp4")
    sidecar = Path(f"{film}.json").read_text(encoding="utf-8")
    Path(f"{forged}.json").write_text(sidecar, encoding="utf-8")
    verdict = reproduce(forged)
    assert verdict.exit_code == 11 and "was changed after it was written" in verdict.line()


@pytest.mark.slow
def test_a_missing_recipe_is_read_from_the_sidecar(film: Path, tmp_path: Path) -> None:
    clip = generated()
    bare = Clip(clip.frames, clip.fps).save(tmp_path / "bare.mp4")
    with pytest.raises(MediaError, match="no recipe"):
        Path(f"{bare}.json").unlink()
        reproduce(bare)
    shutil.copy(f"{film}.json", f"{bare}.json")
    assert reproduce(bare).outcome == "identical"


def test_a_newer_schema_is_refused_with_a_remedy(film: Path) -> None:
    document = json.loads(Path(f"{film}.json").read_text(encoding="utf-8"))
    text = json.dumps({**document["recipe"], "schema_version": 99})
    write_film(film, np.zeros((2, 32, 32, 3), np.uint8), 8.0, comment=text, overwrite=True)
    with pytest.raises(MediaError, match="schema 99.*install a newer Flickbook"):
        reproduce(film)


def test_a_patch_on_a_lossless_image_is_detected(tmp_path: Path) -> None:
    """40 dB alone would let it pass."""
    made = generate(PROMPT, **{**SHORT, "num_frames": 1}).save(tmp_path / "still.png")  # type: ignore[arg-type]
    with Image.open(made) as image:
        pixels, comment = np.array(image), image.text["comment"]  # type: ignore[attr-defined]
    pixels[60:66, 60:66] = pixels[60:66, 60:66] // 2 + 100
    write_png(made, pixels, comment, overwrite=True)
    verdict = reproduce(made)
    assert verdict.exit_code == 11 and "was changed after it was written" in verdict.line()


@pytest.mark.parametrize("name", ["other.mkv", "other", "other.mov"])
def test_a_renamed_film_is_identical(name: str, film: Path, tmp_path: Path) -> None:
    renamed = shutil.copy(film, tmp_path / name)
    assert reproduce(Path(renamed)).outcome == "identical"


@pytest.mark.slow
def test_numbered_frames_are_reproduced_as_a_whole(tmp_path: Path) -> None:
    made = generated().save(tmp_path / "shot-%02d.png")
    assert reproduce(tmp_path / "shot-01.png").outcome == "identical"
    shutil.copy(tmp_path / "shot-02.png", tmp_path / "shot-05.png")
    assert reproduce(made).exit_code == 11


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 130}, "width"),
        ({"num_frames": 10**9}, "num_frames"),
        ({"strength": 0.5}, "strength"),
        ({"fps": 1e300}, "fps"),
        ({"window": 3}, "window"),
        ({"num_inference_steps": 10**6}, "num_inference_steps"),
    ],
)
def test_a_recipe_out_of_the_limits_is_refused(
    changes: dict[str, object], field: str, film: Path, tmp_path: Path
) -> None:
    recipe, _ = carried(film)
    plan = recipe.plan.model_copy(update=changes)
    with pytest.raises(RequestError) as caught:
        reproduce(changed(tmp_path / "hostile.mp4", recipe.model_copy(update={"plan": plan})))
    assert caught.value.field == field


@pytest.mark.slow
def test_paths_in_a_recipe_are_never_opened(film: Path, tmp_path: Path) -> None:
    recipe, _ = carried(film)
    secret, home = tmp_path / "secret.safetensors", tmp_path / "model"
    secret.write_text("secret")
    shutil.copytree(catalogue.find("builtin").path(), home)
    weights = {str(secret): "0" * 64, "../secret.safetensors": "0" * 64, "x" * 5000 + ".safetensors": "0" * 64}
    curious = changed(tmp_path / "curious.mp4", recipe.model_copy(update={"weights": weights}))
    verdict = reproduce(curious, model_dir=home)
    assert sha256(secret) not in verdict.line() and verdict.line().count("are not on this machine") == 3


@pytest.mark.slow
def test_the_recipe_overrides_the_thread_setting(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_THREADS", "1")
    forget()
    verdict = reproduce(film)
    assert verdict.outcome == "identical" and verdict.causes == ()


def test_polished_numbered_frames_are_identical(tmp_path: Path) -> None:
    frames = generated().save(tmp_path / "shot-%02d.png")
    clip = polish(frames, speed=2)
    assert clip.fps == 16, "their rate stands in their recipe"
    made = clip.save(tmp_path / "fast.mp4")
    assert reproduce(made).outcome == "identical"
    (tmp_path / "shot-02.png").unlink()
    assert "the source was changed" in reproduce(made).line()


@pytest.mark.slow
def test_a_sequence_with_a_lora_is_identical(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    network = TextToVideo.load(catalogue.find("builtin").path()).unet
    there = write(tmp_path / "lora" / "ink.safetensors", adapter(network, lambda name: "attn1" in name), "peft")
    made = sequence(["a red circle", "a blue star"], frames_per=1, num_inference_steps=2, seed=1, lora=str(there))
    assert reproduce(made.save(tmp_path / "sequence.mp4")).outcome == "identical"
