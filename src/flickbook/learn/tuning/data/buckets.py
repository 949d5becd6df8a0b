"""Buckets: the sizes that clips of mixed sizes and lengths are trained at, so that clips of one batch are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flickbook.errors import RequestError
from flickbook.learn.tuning.data.dataset import MAX_FRAMES, TrainingClip

#: The widest and, inverted, the narrowest bucket, width : height. Clips beyond are cropped more.
MAX_ASPECT: Final = 3.0


@dataclass(frozen=True, order=True)
class Bucket:
    """The frames, height and width (pixels) that clips are resampled, scaled and cropped to."""

    num_frames: int
    height: int
    width: int


def buckets(
    clips: Iterable[TrainingClip],
    *,
    num_frames: int,
    width: int,
    height: int,
    multiple: int,
    frame_step: int,
    fps: float,
) -> dict[Bucket, list[TrainingClip]]:
    """Group clips by bucket; the largest bucket is first, and each clip is in one.

    A clip gets the size with the aspect ratio nearest to its own, among the sizes of at most `width` x `height` pixels
    in all whose sides are multiples of `multiple`. It gets the largest number of frames 1 + k * `frame_step` that is at
    most `num_frames` and that it has at `fps`, the model's frame rate. Raises RequestError if `width` or `height` is
    less than `multiple`, and for a number below 1 in any argument.
    """
    given = {"num_frames": num_frames, "width": width, "height": height, "multiple": multiple, "frame_step": frame_step}
    for name, value in given.items():
        least = multiple if name in ("width", "height") else 1
        if value < least:
            raise RequestError(name, value, f"must be {least} or more", f"choose {least} or more")
    if not fps > 0:
        raise RequestError("fps", fps, "must be above 0", "give the model's frame rate")
    sizes = _sizes(width, height, multiple)
    nearest: dict[tuple[int, int], tuple[int, int]] = {}
    found: dict[Bucket, list[TrainingClip]] = {}
    for clip in clips:
        own = (clip.width, clip.height)
        if own not in nearest:
            nearest[own] = min(sizes, key=lambda size: _distance(size, own))
        frames = 1 + (min(num_frames, frames_at(clip, fps)) - 1) // frame_step * frame_step
        found.setdefault(Bucket(frames, nearest[own][1], nearest[own][0]), []).append(clip)
    return dict(sorted(found.items(), key=lambda item: item[0], reverse=True))


def frames_at(clip: TrainingClip, fps: float) -> int:
    """Return how many frames a clip has when it is resampled to `fps`; a picture has one."""
    if clip.num_frames == 1 or clip.fps <= 0:
        return 1
    # Rounded as `media.timeline.nearest` rounds the end of a video.
    return max(1, math.floor(min(clip.num_frames, MAX_FRAMES) / clip.fps * fps + 0.5))


def _sizes(width: int, height: int, multiple: int) -> list[tuple[int, int]]:
    """Return the possible sizes, largest first, so that the larger of two equally good ones is chosen.

    Sides are rounded down, so that no size needs more memory than `width` x `height`.
    """
    area = width * height
    side = math.isqrt(area) // multiple * multiple
    sizes = {(side, side)} if side else set()
    for across in range(multiple, area // multiple + 1, multiple):
        down = area // across // multiple * multiple
        sizes.add((across, down))
    allowed = [size for size in sizes if 1 / MAX_ASPECT <= size[0] / size[1] <= MAX_ASPECT]
    nearest = (width // multiple * multiple, height // multiple * multiple)
    return sorted({*allowed, nearest}, key=lambda size: (-size[0] * size[1], size))


def _distance(size: tuple[int, int], other: tuple[int, int]) -> float:
    """Return how far the aspect ratios of two sizes are apart, as the logarithm of their quotient, to 4 decimals."""
    return round(abs(math.log(size[0] * other[1] / (size[1] * other[0]))), 4)
