"""Buckets: the nearest aspect ratio, no more pixels than asked for, and only frame counts that the model takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.learn.tuning.data.buckets import Bucket, buckets, frames_at
from flickbook.learn.tuning.data.dataset import TrainingClip

WAN = {"num_frames": 81, "width": 832, "height": 480, "multiple": 16, "frame_step": 4, "fps": 16.0}


def clip(width: int, height: int, frames: int = 81, fps: float = 16.0) -> TrainingClip:
    return TrainingClip(Path(f"{width}x{height}x{frames}.mp4"), "a caption", frames, fps, width, height)


def test_mixed_sizes_go_to_the_buckets_of_their_shapes() -> None:
    clips = [clip(1920, 1080), clip(1080, 1920), clip(512, 512), clip(832, 480), clip(3000, 100), clip(640, 360)]
    found = buckets(clips, **WAN)
    shapes = {each.path.stem: (bucket.width, bucket.height) for bucket, members in found.items() for each in members}
    assert shapes == {
        "1920x1080x81": (832, 480),
        "1080x1920x81": (480, 832),
        "512x512x81": (624, 624),
        "832x480x81": (832, 480),
        "3000x100x81": (1072, 368),
        "640x360x81": (832, 480),
    }


@pytest.mark.parametrize(
    ("frames", "fps", "step", "expected"),
    [
        (81, 16.0, 4, 81),
        (80, 16.0, 4, 77),
        (300, 24.0, 4, 81),  # 12.5 seconds hold 200 frames, of which 81 are taken
        (30, 30.0, 4, 13),  # one second holds 16 frames
        (9, 8.0, 8, 17),  # and slower than the model's rate, frames are repeated
        (4, 16.0, 8, 1),
        (7, 16.0, 1, 7),
        (1, 0.0, 4, 1),
        (1, 8.0, 4, 1),
        (200_000, 100.0, 1, 81),
    ],
)
def test_a_clip_gets_the_most_frames_that_it_has_and_the_model_takes(
    frames: int, fps: float, step: int, expected: int
) -> None:
    (bucket,) = buckets([clip(832, 480, frames, fps)], **WAN | {"frame_step": step})
    assert bucket == Bucket(expected, 480, 832)


def test_of_a_long_video_only_the_frames_that_are_read_count() -> None:
    assert frames_at(clip(64, 64, 100_000, 32.0), 16.0) == 2048


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(16, 900), st.integers(16, 900), st.sampled_from([8, 16]))
def test_every_bucket_has_allowed_sides_and_at_most_the_pixels_asked_for(
    own_width: int, own_height: int, width: int, height: int, multiple: int
) -> None:
    given = WAN | {"width": width, "height": height, "multiple": multiple}
    (bucket,) = buckets([clip(own_width, own_height)], **given)
    assert bucket.width % multiple == bucket.height % multiple == 0
    assert 0 < bucket.width * bucket.height <= width * height


@pytest.mark.parametrize(("name", "value"), [("width", 15), ("num_frames", 0), ("frame_step", 0), ("fps", 0.0)])
def test_impossible_sizes_are_refused(name: str, value: float) -> None:
    with pytest.raises(RequestError, match=f"^{name}="):
        buckets([clip(64, 64)], **WAN | {name: value})
