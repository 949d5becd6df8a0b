"""Frames of clips: the right part of a video, at the model's rate, in the size of the bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.learn.tuning.data.clips import picture, video

from flickbook.errors import MediaError, RequestError
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.data.dataset import TrainingClip
from flickbook.learn.tuning.data.frames import frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TrainingClip:
    """40 frames at 16 frames per second; the grey of a frame tells its number."""
    path = video(tmp_path_factory.mktemp("frames") / "a.mp4", frames=40, fps=16)
    return TrainingClip(path, "a caption", 40, 16.0, 64, 48)


def numbers(found: np.ndarray) -> list[int]:
    return [round((grey - 10) / 6) for grey in found.mean(axis=(1, 2, 3))]


@pytest.mark.parametrize(
    ("start", "fps", "expected"),
    [
        (0.0, 16, [0, 1, 2, 3, 4]),
        (0.5, 16, [18, 19, 20, 21, 22]),
        (1.0, 16, [35, 36, 37, 38, 39]),
        (0.0, 8, [0, 2, 4, 6, 8]),
        (1.0, 8, [30, 32, 34, 36, 38]),
        (0.0, 32, [0, 0, 1, 1, 2]),
    ],
)
def test_start_chooses_the_part_and_fps_the_frames(
    clip: TrainingClip, start: float, fps: float, expected: list[int]
) -> None:
    found = frames(clip, Bucket(5, 48, 64), fps, start)
    assert (found.shape, found.dtype) == ((5, 48, 64, 3), np.uint8)
    assert numbers(found) == expected


def test_a_picture_covers_its_bucket_and_is_cropped_to_its_centre(tmp_path: Path) -> None:
    still = TrainingClip(picture(tmp_path / "a.png", 64, 32), "a caption", 1, 0.0, 64, 32)
    found = frames(still, Bucket(1, 64, 64), 16)
    assert found.shape == (1, 64, 64, 3)
    assert found[0, :, :28].max() <= 8 and found[0, :, 36:].min() >= 247


def test_a_video_of_one_frame_and_one_frame_of_a_video(tmp_path: Path, clip: TrainingClip) -> None:
    single = TrainingClip(video(tmp_path / "a.mp4", frames=1), "a caption", 1, 8.0, 64, 48)
    assert numbers(frames(single, Bucket(1, 48, 64), 16)) == [0]
    assert numbers(frames(clip, Bucket(1, 24, 32), 16, 1.0)) == [39]


def test_too_many_frames_are_refused(clip: TrainingClip) -> None:
    with pytest.raises(RequestError, match="num_frames=41: a.mp4 has 40 at 16 frames per second; choose 40 or fewer"):
        frames(clip, Bucket(41, 48, 64), 16)
    with pytest.raises(RequestError, match="start=1.5: must be 0 to 1"):
        frames(clip, Bucket(5, 48, 64), 16, 1.5)


def test_a_clip_that_was_shortened_since_is_refused(clip: TrainingClip) -> None:
    longer = replace(clip, num_frames=60)
    with pytest.raises(MediaError, match="ends after 40 of 60 frames"):
        frames(longer, Bucket(60, 48, 64), 16)
    # Two frames may be missing because containers round times: the last one is repeated.
    assert numbers(frames(replace(clip, num_frames=42), Bucket(42, 48, 64), 16))[-4:] == [38, 39, 39, 39]
