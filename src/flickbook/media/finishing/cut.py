"""Trimming of a film, and conversion to another frame rate."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial
from typing import Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.timeline import Shown, nearest
from flickbook.media.write import check_frames, frame_rate

#: The most frames of a film at another rate.
MAX_FRAMES: Final = 10_000
_NUMBER: Final = r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_SPAN: Final = re.compile(rf"\s*({_NUMBER})?\s*:\s*({_NUMBER})?\s*([fs])?\s*")
_FORMS: Final = "write 0.5:1.5 in seconds or 8:24f in frames; an end left out is the film's own"


def span(text: str, fps: float, n: int) -> tuple[int, int]:
    """Parse `text` as a range of frames (start, end), end excluded, of a film of `n` frames at `fps`.

    "0.5:1.5" and "0.5:1.5s" are seconds, rounded to the nearest frame; "8:24f" is frames, counted from 0. Either side
    may be omitted: "1:" begins at one second, ":24f" is the first 24 frames. Raises RequestError for text that cannot
    be parsed, a range outside the film, and an empty range.
    """
    rate = frame_rate(fps)
    found = _SPAN.fullmatch(text)
    if found is None or found[1] is found[2] is None:
        limit = "must not be negative" if "-" in text else "must be two numbers with a colon between"
        raise RequestError("trim", text, limit, _FORMS)
    ticks = Fraction(1) if found[3] == "f" else rate
    if ticks == 1 and found[3] == "f" and "." in f"{found[1]}{found[2]}":
        raise RequestError("trim", text, "frames must be whole numbers", _FORMS)
    start, end = (None if part is None else _nearest(Fraction(part) * ticks) for part in (found[1], found[2]))
    start, end = start or 0, n if end is None else end
    if end > n or start >= n:
        seconds = f"{n} frames, {float(n / rate):.3g} seconds at {fps:g} a second"
        raise RequestError("trim", text, f"must lie within the film's {seconds}", "leave the end out to cut to it")
    if start >= end:
        raise RequestError(
            "trim", text, "holds no frame", f"name an end of {1 / float(rate):.3g} seconds or more later"
        )
    return start, end


def _nearest(ticks: Fraction) -> int:
    """Round `ticks` to the nearest whole number, halves up; Python's `round` rounds halves to even."""
    return int(ticks + Fraction(1, 2))


def trim(frames: np.ndarray, start: int = 0, end: int | None = None) -> np.ndarray:
    """Return a copy of the frames `start` to `end`, `end` excluded; None means the end of the film.

    `frames` is (frames, height, width, 3) uint8. Raises RequestError unless 0 <= start < end <= the number of frames.
    """
    check_frames(frames)
    last = len(frames) if end is None else end
    if not 0 <= start < last <= len(frames):
        limit = f"must be 0 to {len(frames)}, the first before the second"
        raise RequestError("trim", f"{start}:{last}f", limit, "name at least one frame of the film")
    return frames[start:last].copy()


def count_at_rate(count: int, fps: float, new_fps: float) -> int:
    """Return how many frames `at_rate` makes of `count`. Raises RequestError for rates outside 0.1 to 240."""
    return max(1, _nearest(count * frame_rate(new_fps) / frame_rate(fps)))


def at_rate(frames: np.ndarray, fps: float, new_fps: float) -> np.ndarray:
    """Convert `frames` of a film at `fps` to a film at `new_fps` of the same duration, to the nearest frame.

    Each frame is the nearest one in time: frames are dropped or repeated, never synthesised. At least one remains.
    `frames` is (frames, height, width, 3) uint8. Raises RequestError for rates outside 0.1 to 240, and for more than
    10,000 frames.
    """
    check_frames(frames)
    rate, new = frame_rate(fps), frame_rate(new_fps)
    count = count_at_rate(len(frames), fps, new_fps)
    if count > MAX_FRAMES:
        limit = f"would make {count} frames, and {MAX_FRAMES} are the most"
        raise RequestError("rate", new_fps, limit, "choose a lower rate or trim the film first")
    film = (Shown(t / rate, 1 / rate, partial(frames.__getitem__, t)) for t in range(len(frames)))
    return np.stack(list(nearest(film, count, new)))
