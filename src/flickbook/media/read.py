"""Decoding of images and videos of common formats to frames, in a child process with limits of memory and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from flickbook.errors import MediaError, RequestError
from flickbook.formats import is_frames, numbered_frames
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.sniff import DEFAULT_LIMITS, PICTURE_LIMITS, Limits, check_size, opened
from flickbook.media.write import FilePath, frame_rate


def facts(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int, int, float]:
    """Return frames, displayed width and height (pixels), and frames per second of a video. Only one frame is decoded.

    The video may have more frames than `limits` allow, because `read_frames` reads only its beginning. Raises
    MediaError for a file that is missing, damaged, larger than `limits` in another respect, or of an unsupported
    format.
    """
    frames, width, height, rate = probe.ask("facts", path, limits=asdict(limits)).value
    return frames, width, height, rate


def read_video(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[np.ndarray, float]:
    """Return all frames (frames, height, width, 3) uint8 RGB of a video, and its frames per second.

    Raises MediaError for a file that is missing, larger than `limits`, damaged, incomplete or of an unsupported format.
    """
    return _received("video", path, limits=asdict(limits))


def read_frames(path: FilePath, count: int, fps: float, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Return the first `count` frames (n, height, width, 3) uint8 RGB of a video resampled to `fps` frames per second.

    Each is the frame whose start is nearest in time; n is less than `count` if the video is shorter. Later frames are
    not decoded, and `limits.frames` applies to those that must be. Raises MediaError as `read_video` does, RequestError
    for a `count` below 1 and for `fps` outside 0.1 to 240.
    """
    if count < 1:
        raise RequestError("count", count, "must be 1 or more", "ask for at least one frame")
    frame_rate(fps)
    return _received("frames", path, count=count, fps=float(fps), limits=asdict(limits))[0]


def stream_frames(
    path: FilePath, count: int, fps: float, first: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Iterator[np.ndarray]:
    """Yield `count` frames (height, width, 3) uint8 RGB of a video resampled to `fps`, from frame number `first` on.

    Frames arrive one by one, so a caller that reduces each holds one large frame at a time. Fewer frames are yielded
    if the video is shorter. Frames before `first` are decoded too; `limits.frames` applies to all that are decoded.
    Raises what `read_frames` raises, and RequestError for a negative `first`.
    """
    if count < 1:
        raise RequestError("count", count, "must be 1 or more", "ask for at least one frame")
    if first < 0:
        raise RequestError("first", first, "must be 0 or more", "count frames from 0")
    frame_rate(fps)
    messages = probe.stream("frames", path, count=count, fps=float(fps), limits=asdict(limits), first=first)
    with closing(messages):
        next(messages)
        yield from (array(message) for message in messages if not message.answer)


def read_picture(path: FilePath, limits: Limits = PICTURE_LIMITS) -> np.ndarray:
    """Return the pixels (height, width, 3) uint8 RGB of an image, or of the first of several.

    The EXIF orientation is applied, and transparent pixels are composited on white. Raises MediaError as `read_video`
    does.
    """
    return array(probe.ask("picture", path, probe.IMAGE, limits=asdict(limits)))


def read_any(path: FilePath) -> tuple[np.ndarray, float]:
    """Return the frames (frames, height, width, 3) uint8 RGB and the rate of a video, numbered frames, or an image.

    Images and numbered frames have no rate; 1 is returned. Raises MediaError as `read_video` does.
    """
    if is_frames(path):
        numbered = numbered_frames(path, DEFAULT_LIMITS.frames)
        first = read_picture(numbered[0])
        height, width, _ = first.shape
        check_size(path, len(numbered), height, width, DEFAULT_LIMITS)
        return _gathered(path, chain([first], map(read_picture, numbered[1:])), len(numbered)), 1.0
    with opened(path, None, "either") as (_, form, _):
        moves = form.moves
    return read_video(path) if moves else (read_picture(path)[None], 1.0)


def _received(task: str, path: FilePath, **arguments: Any) -> tuple[np.ndarray, float]:
    """Return the frames that a child process sends, and the rate in its first message."""
    messages = probe.stream(task, path, **arguments)
    with closing(messages):
        head = next(messages).value
        frames = (array(message) for message in messages if not message.answer)
        return _gathered(path, frames, head["most"]), head["rate"]


def array(message: probe.Message) -> np.ndarray:
    """Return the pixels (height, width, 3) uint8 RGB in one message of a child process."""
    return np.frombuffer(message.data, np.uint8).reshape(message.value["shape"])


def _gathered(path: FilePath, frames: Iterable[np.ndarray], most: int) -> np.ndarray:
    """Collect `frames` in one preallocated array; joining a list would take twice the memory."""
    room = np.empty(0, np.uint8)
    found = 0
    for frame in frames:
        if found == 0:
            room = np.empty((most, *frame.shape), np.uint8)
        if found == most or frame.shape != room.shape[1:]:
            raise MediaError(path, f"frame {found + 1} does not fit its header", "export it again")
        room[found] = frame
        found += 1
    if not found:
        raise MediaError(path, "holds no frames", "name another film")
    return room[:found]
