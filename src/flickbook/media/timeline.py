"""Frames as they lie in time, and which of them stand at the ticks of another rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame: when it is shown (seconds from the first one), and for how long (0 if unknown)."""

    start: Fraction
    seconds: Fraction
    convert: Callable[[], np.ndarray]

    @cached_property
    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8 RGB; converted when asked for, as most frames of a film never are."""
        return self.convert()


def nearest(film: Iterable[Shown], count: int, fps: Fraction) -> Iterator[np.ndarray]:
    """At most `count` frames at 0, 1/fps, 2/fps... seconds: each time the one that begins nearest, the earlier of two.

    The film ends when its last frame has been shown, to the nearest tick, as containers round times; a last frame whose
    time is unknown is shown for the mean of the others. No more of `film` is taken than is needed to know.
    """
    done, taken = 0, 0
    before: Shown | None = None
    for frame in film:
        taken += 1
        while done < count and (tick := done / fps) <= frame.start:
            earlier = before is not None and tick - before.start <= frame.start - tick
            yield before.pixels if before is not None and earlier else frame.pixels
            done += 1
        if done == count:
            return
        before = frame
    if before is None:
        return
    end = before.start + (before.seconds or before.start / max(1, taken - 1))
    while done < count and (done == 0 or (done + Fraction(1, 2)) / fps <= end):
        yield before.pixels
        done += 1
