"""Where the windows of a long film lie, and which of several prompts each shows; whole numbers only."""

from __future__ import annotations

from collections.abc import Sequence


def starts(frames: int, window: int, shift: int = 0, stride: int = 0) -> list[int]:
    """The first frame of each window: `stride` frames apart, the last one ending with the film; 0 is half a window.

    With a `shift`, from 0 to the stride, all but the first and the last begin that much later.
    """
    if frames <= window:
        return [0]
    return sorted({0, *range(shift, frames - window, stride or window // 2), frames - window})


def prompt_of(start: int, window: int, beginnings: Sequence[int]) -> int:
    """Which of several prompts, each of which begins at a frame, a window shows: the one at its middle."""
    middle = start + window // 2
    return max(i for i, first in enumerate(beginnings) if first <= middle)
