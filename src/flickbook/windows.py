"""Windows of long films: their positions, and the prompt of each. Integer arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence


def starts(frames: int, window: int, shift: int = 0, stride: int = 0) -> list[int]:
    """Return the first frame of each window. Windows are `stride` frames apart; the last one ends with the film.

    A `stride` of 0 is half a window. With a `shift`, from 0 to the stride, all windows but the first and the last begin
    that many frames later.
    """
    if frames <= window:
        return [0]
    return sorted({0, *range(shift, frames - window, stride or window // 2), frames - window})


def prompt_of(start: int, window: int, beginnings: Sequence[int]) -> int:
    """Return the index of the prompt at the middle of a window. `beginnings` are the prompts' first frames."""
    middle = start + window // 2
    return max(i for i, first in enumerate(beginnings) if first <= middle)
