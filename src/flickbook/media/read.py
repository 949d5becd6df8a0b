"""Pictures and films of any common format to frames, decoded by a child process with limits of memory and time."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Frames, width and height as shown (pixels), and frames a second of a film, of which only one frame is decoded.

    A film may have more frames than `limits`, as `read_frames` reads only its beginning. Raises MediaError for
    anything missing, damaged, larger than `limits` otherwise, or in a format that is not read.
    """
    frames, width, height, rate = probe.ask("facts", path, limits=asdict(limits)).value
    return frames, width, height, rate


def read_video(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[np.ndarray, float]:
    """All frames (frames, height, width, 3) uint8 RGB of a film, and its frames a second.

    Raises MediaError for anything missing, larger than `limits`, damaged, incomplete or in another format.
    """
    return _received("video", path, limits=asdict(limits))


def read_frames(path: FilePath, count: int, fps: float, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """The first `count` frames (n, height, width, 3) uint8 RGB of a film as it is at `fps` frames a second.

    Each is the frame that begins nearest in time; n is less than `count` if the film ends before. What comes after
    them is not decoded, and `limits.frames` holds for what must be. Raises MediaError as `read_video` does,
    RequestError for a `count` below 1 and for `fps` outside 0.1 to 240.
    """
    if count < 1:
        raise RequestError("count", count, "must be 1 or more", "ask for at least one frame")
    frame_rate(fps)
    return _received("frames", path, count=count, fps=float(fps), limits=asdict(limits))[0]


def read_picture(path: FilePath, limits: Limits = PICTURE_LIMITS) -> np.ndarray:
    """The pixels (height, width, 3) uint8 RGB of a picture, or of the first of several, upright by its EXIF.

    What is transparent lies on white. Raises MediaError as `read_video` does.
    """
    return array(probe.ask("picture", path, probe.DECODE, limits=asdict(limits)))


def read_any(path: FilePath) -> tuple[np.ndarray, float]:
    """The frames (frames, height, width, 3) uint8 RGB and their rate of a film, of numbered frames, or of a picture.

    What is not a film has no rate, and is given 1. Raises MediaError as `read_video` does.
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
    """The frames that a child sends, and the rate that it tells first."""
    messages = probe.stream(task, path, **arguments)
    with closing(messages):
        told = next(messages).value
        frames = (array(message) for message in messages if not message.answer)
        return _gathered(path, frames, told["most"]), told["rate"]


def array(message: probe.Message) -> np.ndarray:
    """The pixels (height, width, 3) uint8 RGB in one message of a child."""
    return np.frombuffer(message.data, np.uint8).reshape(message.value["shape"])


def _gathered(path: FilePath, frames: Iterable[np.ndarray], most: int) -> np.ndarray:
    """`frames` as one array, made at once, as joining them would take twice the memory."""
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
