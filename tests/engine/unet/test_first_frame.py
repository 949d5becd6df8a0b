"""Films of the built-in model that begin with a picture of its world, or with a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flickbook.engine.generate import generate
from flickbook.engine.unet.first_frame import FirstFrame
from flickbook.errors import RequestError
from flickbook.media.clip import Clip
from flickbook.media.metrics.similarity import psnr
from flickbook.world import detect, render
from flickbook.world.scenes import Actor, Scene

WORDS = "a red circle moving left on a blue background"
TRUE = render.render(Scene("core", 5, "blue", (Actor("circle", "red", "left"),)))


def moves(frames: np.ndarray) -> np.ndarray:
    """How much each frame differs from the one before it, (n - 1,)."""
    found: np.ndarray = np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))
    return found


def test_the_first_frame_influences_later_frames_less_and_only_early() -> None:
    first = FirstFrame(torch.ones(1, 8, 1, 2, 2), 1000)
    x0 = torch.zeros(1, 8, 4, 2, 2)
    early, late = (first.held(x0, timestep)[0, 0, :, 0, 0] for timestep in (900, 100))
    assert early[0] == 1 and (early[:-1] > early[1:]).all() and early[-1] > 0
    assert late.tolist() == [1, 0, 0, 0]
    assert first.shown(x0)[0, 0, :, 0, 0].tolist() == [1, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.model
def test_a_film_continues_from_its_input_image(tmp_path: Path) -> None:
    Image.fromarray(TRUE[0]).save(tmp_path / "picture.png")
    frames = generate(WORDS, image=tmp_path / "picture.png", seed=3, num_inference_steps=12).frames
    assert psnr(frames[0], TRUE[0]) > 30
    # 1.03 as measured; 1.83 where the first frame is only put in place, which is a cut.
    assert moves(frames)[0] < 1.4 * np.median(moves(frames)[1:])
    (seen,) = detect.read(frames).objects
    assert (seen.colour, seen.shape, seen.motion) == ("red", "circle", "left")


@pytest.mark.slow
@pytest.mark.model
def test_a_higher_strength_departs_further_from_the_video(tmp_path: Path) -> None:
    video = Clip(TRUE, 8.0).save(tmp_path / "clip.mp4")
    words = "a green circle moving left on a blue background"
    far = []
    for strength in (0.1, 0.3, 0.5, 0.6, 0.7, 1.0):
        made = generate(words, video=video, strength=strength, seed=3, num_inference_steps=10).frames
        far.append(float(np.abs(made.astype(float) - TRUE).mean()))
    # From 0.7 on nothing of the video is left, and the distance is that of any film of the prompt.
    assert far[:-1] == sorted(far[:-1]) and far[-1] > far[3]
    assert 0.25 < (far[2] - far[0]) / (far[-1] - far[0]) < 0.85, "the middle is a blend"


@pytest.mark.model
@pytest.mark.parametrize("field", ["image", "video"])
def test_an_unsuitable_image_is_refused_with_another_model(tmp_path: Path, field: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    if field == "image":
        Image.fromarray(noise[0]).save(tmp_path / "photo.png")
        given = tmp_path / "photo.png"
    else:
        given = Clip(noise, 8.0).save(tmp_path / "film.mp4")
    with pytest.raises(RequestError, match=f"^{field}=.* images like its training films.*ltx-video"):
        generate(WORDS, seed=3, **{field: given})  # type: ignore[arg-type]
