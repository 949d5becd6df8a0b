"""A Clip: what it accepts, and that film and sidecar are saved together, with the truth in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from flickbook.errors import OutputError, RequestError
from flickbook.formats import container_of, encoding
from flickbook.media.clip import Clip, check_save, frames_sha256, sidecar_path
from flickbook.media.inspect import inspect, read_recipe
from flickbook.media.read import read_picture, read_video
from flickbook.spec import Placement, Plan, Recipe, Run

RUN = Run(
    seconds={"denoise": 1.5}, peak_memory_bytes=1, started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:02Z"
)


def clip(frames: int = 4, prompt: str = "a red circle") -> Clip:
    pixels = np.random.default_rng(1).integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8)
    plan = Plan(
        task="film" if frames > 1 else "picture",
        model="builtin",
        revision="1",
        prompt=prompt,
        negative_prompt="",
        width=48,
        height=32,
        num_frames=frames,
        fps=8.0,
        num_inference_steps=25,
        guidance_scale=3.0,
        seed=7,
        scheduler="ddim",
        container="mp4" if frames > 1 else "png",
    )
    recipe = Recipe(
        plan=plan,
        placement=Placement(),
        weights={"unet/model.safetensors": "0" * 64},
        frames_sha256=frames_sha256(pixels),
        versions={"torch": "2"},
        device_name="a processor",
    )
    return Clip(pixels, 8.0, recipe, RUN)


def test_repr_describes_the_clip() -> None:
    assert repr(clip()) == "Clip(4 frames, 48x32, 8 fps, 'a red circle', seed 7)"
    assert repr(Clip(clip(1).frames, 12.5)) == "Clip(1 frame, 48x32, 12.5 fps)"


def in_file(made: Clip, name: str) -> Recipe:
    """The recipe as a file of this name carries it: with how its frames were encoded."""
    assert made.recipe is not None
    return made.recipe.encoded(encoding(container_of(name)))


def test_images_are_the_frames() -> None:
    made = clip(3)
    images = made.images()
    assert [image.mode for image in images] == ["RGB"] * 3 and images[0].size == (48, 32)
    assert all(np.array_equal(np.asarray(image), frame) for image, frame in zip(images, made.frames, strict=True))
    images[0].putpixel((0, 0), (1, 2, 3))
    assert frames_sha256(made.frames) == made.recipe.frames_sha256  # type: ignore[union-attr]
    assert made.seconds == 3 / 8


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8), None]
)
def test_other_arrays_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(RequestError, match="^frames="):
        Clip(frames, 8)


@pytest.mark.parametrize("fps", [0, -8, float("nan"), 1e9])
def test_other_rates_are_refused(fps: float) -> None:
    with pytest.raises(RequestError, match="^fps="):
        Clip(np.zeros((1, 4, 4, 3), np.uint8), fps)


def test_the_hash_covers_pixels_shape_and_order() -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    digest = frames_sha256(frames)
    assert digest == hashlib.sha256(b"uint8 2,4,6,3\n" + frames.tobytes()).hexdigest()
    assert frames_sha256(np.asfortranarray(frames)) == digest
    assert frames_sha256(frames.reshape(2, 6, 4, 3)) != digest
    assert frames_sha256(frames[::-1]) != digest


def test_saving_a_film_writes_it_with_its_recipe_and_sidecar(tmp_path: Path) -> None:
    made = clip(4, prompt='snow on "Mount ❄"')
    path = made.save(tmp_path / "outputs" / "film.mp4")
    assert path == tmp_path / "outputs" / "film.mp4"
    assert sorted(os.listdir(path.parent)) == ["film.mp4", "film.mp4.json"]
    assert read_recipe(path) == in_file(made, "film.mp4")
    frames, fps = read_video(path)
    assert (frames.shape, fps) == (made.frames.shape, 8.0)
    document = json.loads(sidecar_path(path).read_text())
    assert Recipe.from_json(json.dumps(document["recipe"])) == in_file(made, "film.mp4")
    assert Run.from_json(json.dumps(document["run"])) == RUN


def test_saving_again_gives_the_same_bytes_whatever_the_run(tmp_path: Path) -> None:
    made = clip()
    later = dataclasses.replace(made, run=RUN.model_copy(update={"started_at": "2030-01-01T00:00:00Z"}))
    assert made.save(tmp_path / "a.mp4").read_bytes() == later.save(tmp_path / "b.mp4").read_bytes()


def test_one_frame_saves_as_png_without_loss(tmp_path: Path) -> None:
    made = clip(1)
    path = made.save(str(tmp_path / "still.PNG"))
    assert np.array_equal(read_picture(path), made.frames[0])
    assert read_recipe(path) == in_file(made, "still.png")


def test_a_clip_without_recipe_saves_an_empty_sidecar(tmp_path: Path) -> None:
    path = Clip(clip().frames, 12.5).save(tmp_path / "film.mp4")
    assert json.loads(sidecar_path(path).read_text()) == {"recipe": None, "run": None}
    assert read_video(path)[1] == 12.5


@pytest.mark.parametrize("name", ["film.avi", "film", "film.mp4.json", ".mp4", "shot-%d.jpg"])
def test_unsupported_file_names_are_refused_with_a_suggestion(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.mp4|shot-%04d\.png"):
        clip().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.avif"])
def test_a_film_cannot_be_saved_as_an_image(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="one frame, not 4"):
        clip(4).save(tmp_path / name)
    with pytest.raises(OutputError, match="one frame, not 4"):
        check_save(tmp_path / name, 4)
    check_save(tmp_path / name, 1)


FILMS = ["film.mp4", "film.webm", "film.mkv", "film.gif", "film.webp", "film.apng"]
PICTURES = ["still.png", "still.jpg", "still.jpeg", "still.webp", "still.gif", "still.apng", "still.mp4"]


@pytest.mark.parametrize("name", [*FILMS, *PICTURES])
def test_every_container_carries_the_recipe(tmp_path: Path, name: str) -> None:
    made = clip(1 if name.startswith("still") else 4, prompt='snow on "Mount ❄"')
    path = made.save(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == [name, f"{name}.json"]
    if name != "film.mkv":  # see test_inspect.py
        assert read_recipe(path) == in_file(made, name)


def test_numbered_frames_have_the_recipe_in_the_first_and_in_the_sidecar(tmp_path: Path) -> None:
    made = clip(3)
    path = made.save(tmp_path / "shot-%04d.png")
    names = ["shot-0001.png", "shot-0001.png.json", "shot-0002.png", "shot-0003.png"]
    assert sorted(os.listdir(tmp_path)) == names and path == tmp_path / "shot-%04d.png"
    assert sidecar_path(path) == sidecar_path(tmp_path / "shot-0001.png") == tmp_path / "shot-0001.png.json"
    assert read_recipe(tmp_path / "shot-0001.png") == in_file(made, "shot-%04d.png")
    pictures = [read_picture(tmp_path / name) for name in names if name.endswith(".png")]
    assert np.array_equal(np.stack(pictures), made.frames)
    for removed, taken in (("shot-0001.png", "shot-0002.png"), ("shot-0002.png", "shot-0003.png")):
        (tmp_path / removed).unlink()
        with pytest.raises(OutputError, match=f"{taken}: exists already"):
            check_save(path, 3)
    (tmp_path / "shot-0003.png").unlink()
    with pytest.raises(OutputError, match="shot-0001.png.json: exists already"):
        check_save(path, 3)
    (tmp_path / "shot-0001.png.json").unlink()
    (tmp_path / "shot-0001.png.json").mkdir()
    with pytest.raises(OutputError, match="json: is a directory"):
        made.save(path, overwrite=True)
    assert os.listdir(tmp_path) == ["shot-0001.png.json"]


def test_encoding_comes_from_arguments_recipe_or_default(tmp_path: Path) -> None:
    made = clip(4)
    assert made.recipe is not None
    plan = made.recipe.plan.model_copy(update={"codec": "h265", "quality": 40, "pixel_format": "yuv420p"})
    planned = dataclasses.replace(made, recipe=made.recipe.model_copy(update={"plan": plan}))
    assert inspect(made.save(tmp_path / "usual.mp4"))["codec"] == "h264"
    assert inspect(planned.save(tmp_path / "planned.mp4"))["codec"] == "hevc"
    assert inspect(planned.save(tmp_path / "planned.webm"))["codec"] == "vp9"
    assert inspect(planned.save(tmp_path / "given.mp4", codec="av1"))["codec"] == "av1"
    with pytest.raises(RequestError, match="codec=h264: does not fit webm; choose vp9, av1"):
        made.save(tmp_path / "film.webm", codec="h264")
    assert not (tmp_path / "film.webm").exists()


def test_a_lossless_film_has_the_frames_that_the_recipe_names(tmp_path: Path) -> None:
    made = clip(4)
    assert made.recipe is not None
    for name, codec in (("film.mp4", "h264"), ("film.webm", "vp9"), ("film.webp", None)):
        frames, _ = read_video(made.save(tmp_path / name, codec=codec, quality="lossless"))
        assert frames_sha256(frames) == made.recipe.frames_sha256


@pytest.mark.parametrize("taken", ["film.mp4", "film.mp4.json"])
def test_film_and_sidecar_are_not_overwritten_by_default(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(OutputError, match=f"{taken}: exists already"):
        clip().save(tmp_path / "film.mp4")
    with pytest.raises(OutputError, match=f"{taken}: exists already"):
        check_save(tmp_path / "film.mp4", 4)
    assert os.listdir(tmp_path) == [taken]
    assert (tmp_path / taken).read_text() == "precious"
    clip().save(tmp_path / "film.mp4", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "film.mp4.json"]
    assert read_video(tmp_path / "film.mp4")[0].shape == (4, 32, 48, 3)


def test_an_unwritable_sidecar_leaves_no_film(tmp_path: Path) -> None:
    (tmp_path / "film.mp4.json").mkdir()
    with pytest.raises(OutputError, match="film.mp4.json: is a directory"):
        clip().save(tmp_path / "film.mp4", overwrite=True)
    assert os.listdir(tmp_path) == ["film.mp4.json"]


def test_a_recipe_of_other_frames_is_refused(tmp_path: Path) -> None:
    made = clip()
    with pytest.raises(RequestError, match="recipe=None"):
        dataclasses.replace(made, frames=255 - made.frames).save(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []
