"""The pixels of a clip in the size, the length and the frame rate of its bucket."""

from __future__ import annotations

from typing import Final

import numpy as np

from flickbook.engine.sources import fitted
from flickbook.errors import MediaError, RequestError
from flickbook.learn.tuning.data.buckets import Bucket, frames_at
from flickbook.learn.tuning.data.dataset import MAX_FRAMES, TrainingClip
from flickbook.media.read import read_picture, stream_frames
from flickbook.media.untrusted.sniff import Limits

#: Frames arrive one by one and are scaled at once, so their sum may be larger than memory. The frames of a variable
#: rate may be dense where the clip is taken from.
_LIMITS: Final = Limits(frames=2 * MAX_FRAMES, decoded_bytes=1 << 36)
#: Frames that may be missing at the end, because containers round times.
_MISSING: Final = 2


def frames(clip: TrainingClip, bucket: Bucket, fps: float, start: float = 0.5) -> np.ndarray:
    """Return the frames (bucket.num_frames, bucket.height, bucket.width, 3) uint8 RGB of a clip.

    A video is resampled to `fps` frames per second, the nearest frame in time each. `start`, 0 to 1, chooses which part
    of a longer video is taken: 0 its beginning, 0.5 its middle, 1 its end. Each frame is scaled to cover the bucket and
    cropped to its centre. Raises MediaError if the file cannot be read or has changed, RequestError for `start` out of
    range and for a bucket that has more frames than the clip.
    """
    if not 0 <= start <= 1:
        raise RequestError("start", start, "must be 0 to 1", "0 is the beginning of the clip, 1 its end")
    there, count = frames_at(clip, fps), bucket.num_frames
    if count > there:
        limit = f"{clip.path.name} has {there} at {fps:g} frames per second"
        raise RequestError("num_frames", count, limit, f"choose {there} or fewer")
    if clip.fps == 0:
        return fitted(read_picture(clip.path), bucket.width, bucket.height)[None]
    first = round(start * (there - count))
    found = np.empty((count, bucket.height, bucket.width, 3), np.uint8)
    done = 0
    for frame in stream_frames(clip.path, count, fps, first, _LIMITS):
        found[done] = fitted(frame, bucket.width, bucket.height)
        done += 1
    if done < count - _MISSING or not done:
        raise MediaError(clip.path, f"ends after {first + done} of {there} frames", "export it again")
    found[done:] = found[done - 1]
    return found
