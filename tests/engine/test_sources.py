"""What films begin from: pictures and videos of any size, as frames of the film's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flickbook.engine.sources import complete, fitted, sources
from flickbook.errors import MediaError, RequestError
from flickbook.media.clip import Clip
from flickbook.media.write import write
from flickbook.resolution import resolve
from flickbook.spec import Request


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames at 16 frames a second, 64x32, each brighter than the one before."""
    frames = np.stack([np.full((32, 64, 3), 20 * number, np.uint8) for number in range(10)])
    return Clip(frames, 16.0).save(tmp_path / "clip.mp4")


def test_an_image_is_cropped_to_the_size_of_the_film(tmp_path: Path) -> None:
    wide = np.zeros((50, 200, 3), np.uint8)
    wide[:, 75:125] = 255  # the middle, a square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    request = Request(prompt="a star", image=str(tmp_path / "wide.png"))
    plan = resolve(request)
    (frames,) = sources(plan, request).values()
    assert frames.shape == (1, 128, 128, 3)
    assert frames.mean() > 250, "what stands over on both sides is cut off"


def test_a_video_is_read_at_the_films_own_rate(video: Path) -> None:
    request = complete(Request(prompt="a star", video=str(video)))
    assert request.num_frames == 5, "ten frames at 16 a second are five at 8"
    (frames,) = sources(resolve(request), request).values()
    assert frames.shape == (5, 128, 128, 3)
    assert np.abs(frames.mean((1, 2, 3)) - [0, 40, 80, 120, 160]).max() < 6


def test_given_num_frames_are_kept(video: Path) -> None:
    assert complete(Request(prompt="a star", video=str(video), num_frames=3)).num_frames == 3
    assert complete(Request(prompt="a star")).num_frames is None
    # A model of 4k + 1 frames takes the most that fit.
    assert complete(Request(prompt="a star", video=str(video), model="wan-2.1-1.3b")).num_frames == 9


def test_a_too_short_video_is_refused_with_its_frames(video: Path) -> None:
    request = Request(prompt="a star", video=str(video), num_frames=12)
    with pytest.raises(RequestError, match="num_frames=12: .*has 5 at 8 frames per second; ask for 5 or fewer"):
        sources(resolve(request), request)


def test_a_file_changed_since_resolving_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8), "red").save(path)
    request = Request(prompt="a star", image=str(path))
    plan = resolve(request)
    Image.new("RGB", (8, 8), "blue").save(path)
    with pytest.raises(MediaError, match="was changed"):
        sources(plan, request)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_any_picture_fits_any_film(height: int, width: int, high: int, wide: int) -> None:
    picture = np.full((height, width, 3), 77, np.uint8)
    made = fitted(picture, wide, high)
    assert made.shape == (high, wide, 3) and (made == 77).all()


def test_a_film_as_image_input_gives_its_last_frame(tmp_path: Path) -> None:
    frames = np.zeros((4, 128, 128, 3), np.uint8)
    frames[-1] = (200, 60, 60)
    write(tmp_path / "before.mp4", frames, 8)
    request = Request(prompt="x", image=str(tmp_path / "before.mp4"))
    plan = resolve(request)
    (inputs,) = sources(plan, request).values()
    assert inputs.shape == (1, 128, 128, 3)
    assert np.abs(inputs[0].astype(int) - (200, 60, 60)).max() < 12


def numbered(directory: Path, numbers: tuple[int, ...]) -> str:
    """Frames of 32x32 pixels, each as bright as ten times its number, and the name of the sequence."""
    for number in numbers:
        Image.new("RGB", (32, 32), (10 * number,) * 3).save(directory / f"{number:05d}.png")
    return str(directory / "%05d.png")


def test_numbered_frames_are_a_video_at_the_films_rate(tmp_path: Path) -> None:
    request = complete(Request(prompt="a star", video=numbered(tmp_path, (1, 2, 3))))
    assert request.num_frames == 3
    before = resolve(request)
    (frames,) = sources(before, request).values()
    assert frames.shape == (3, 128, 128, 3) and frames.mean((1, 2, 3)).tolist() == [10, 20, 30]
    Image.new("RGB", (32, 32), "white").save(tmp_path / "00003.png")
    assert resolve(request).video != before.video, "the hash covers every frame"
    with pytest.raises(MediaError, match="was changed"):
        sources(before, request)


def test_numbered_frames_may_begin_at_0(tmp_path: Path) -> None:
    request = Request(prompt="a star", video=numbered(tmp_path, (0, 1, 2)))
    plan = resolve(complete(request))
    assert plan.num_frames == 3
    (frames,) = sources(plan, complete(request)).values()
    assert frames.mean((1, 2, 3)).tolist() == [0, 10, 20]
    Image.new("RGB", (32, 32), "white").save(tmp_path / "00000.png")
    assert resolve(complete(request)).video != plan.video, "the hash covers the first frame too"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((2, 3), "00001.png is missing"), ((1, 2, 4), "00003.png is missing"), ((0, 1, 3), "00002.png is missing")],
)
def test_a_missing_frame_is_named(tmp_path: Path, numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        resolve(Request(prompt="a star", video=numbered(tmp_path, numbers), num_frames=2))
