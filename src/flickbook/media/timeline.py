"""Presentation times of frames, and resampling of a video to another frame rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame with its start time (seconds from the first frame) and its duration (0 if unknown)."""

    start: Fraction
    seconds: Fraction
    convert: Callable[[], np.ndarray]

    @cached_property
    def pixels(self) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB. Converted lazily: most frames of a video are never used."""
        return self.convert()


def nearest(film: Iterable[Shown], count: int, fps: Fraction, first: int = 0) -> Iterator[np.ndarray]:
    """Yield at most `count` frames, those nearest to 0, 1/fps, 2/fps... seconds; on a tie, the earlier one.

    With `first`, the first so many of these times are left out, and their frames are not converted.

    The video ends when its last frame has been shown, rounded to the nearest tick, because containers round times. A
    last frame of unknown duration gets the mean of the others. `film` is consumed only as far as necessary.
    """
    done, frames_read, end_tick = 0, 0, first + count
    before: Shown | None = None
    for frame in film:
        frames_read += 1
        while done < end_tick and (tick := done / fps) <= frame.start:
            earlier = before is not None and tick - before.start <= frame.start - tick
            if done >= first:
                yield before.pixels if before is not None and earlier else frame.pixels
            done += 1
        if done == end_tick:
            return
        before = frame
    if before is None:
        return
    end = before.start + (before.seconds or before.start / max(1, frames_read - 1))
    while done < end_tick and (done == 0 or (done + Fraction(1, 2)) / fps <= end):
        if done >= first:
            yield before.pixels
        done += 1
