"""Seamless loops: films whose last frame leads into the first."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.finishing.join import cross_fade
from flickbook.media.write import check_frames

Mode = Literal["pingpong", "blend", "cut"]
#: Numbers of the first frame and of the one after the last.
Part = tuple[int, int]
_LEAST: Final = {"pingpong": 2, "blend": 4, "cut": 6}
_MOST: Final = 2000  # frames that "cut" compares pairwise
_JUMP: Final = 1.5  # multiple of the film's largest step that a cut may jump
_SEAM: Final = 1.05  # multiple of the film's largest step that its transitions may have
_EVEN: Final = 1.5  # multiple of the film's largest step that a fade may reach in its middle
_CELLS: Final = 32  # cells per side of the images that "cut" compares


def loop(frames: np.ndarray, mode: Mode = "blend") -> np.ndarray:
    """Return a version of `frames` (frames, height, width, 3) uint8 that loops without a jump; a new array.

    "pingpong" plays forward and back, without repeating either end: 2 n - 2 frames. "blend" fades the last frames into
    the first ones and is that much shorter: by the smallest overlap whose transitions are not larger than the film's
    own steps, or by half the film if there is none. "cut" keeps the part, at least half of the film, whose end comes
    closest to its beginning, without blending. Raises RequestError for another mode, too few frames, and a "cut" of a
    film that never returns.
    """
    return looped(frames, mode, part_of(frames, mode))


def looped(frames: np.ndarray, mode: Mode, part: Part) -> np.ndarray:
    """Return the loop of `frames` whose part `part_of` found; a new array."""
    start, end = part
    if mode == "pingpong":
        return np.concatenate([frames, frames[-2:0:-1]])
    return blended(frames, start) if mode == "blend" else frames[start:end].copy()


def part_of(frames: np.ndarray, mode: Mode) -> Part:
    """Return the part of the frames that the loop keeps: all, those between the fades of "blend", or that of "cut".

    Raises RequestError as `loop` does.
    """
    check_frames(frames)
    if mode not in get_args(Mode):
        raise RequestError("loop", mode, "must be pingpong, blend or cut", "blend suits most films")
    least = _LEAST[mode]
    if len(frames) < least:
        raise RequestError("loop", mode, f"needs {least} frames and there are {len(frames)}", "make a longer film")
    if mode == "pingpong":
        return 0, len(frames)
    if mode == "cut":
        start, end = _round(frames)
        seam, usual = _step(frames[end - 1], frames[start]), float(steps(frames)[1:].max())
        if seam > _JUMP * usual:
            limit = (
                f"finds no frame to go back to: the nearest is {seam:.1f} levels away, and steps are up to {usual:.1f}"
            )
            raise RequestError("loop", mode, limit, "choose blend or pingpong")
        return start, end
    overlap = _overlap(frames)
    return overlap, len(frames) - overlap


def steps(frames: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of each frame to the previous one, in levels; of the first to the last.

    (n,) for `frames` (n, h, w, 3) uint8. In a loop, the first number is the seam.
    """
    check_frames(frames)
    return np.array([_step(frames[t - 1], frames[t]) for t in range(len(frames))])


def _step(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.maximum(a, b) - np.minimum(a, b)).mean())


def blended(frames: np.ndarray, overlap: int) -> np.ndarray:
    """Fade the end into the beginning: the frame after the last is the end's next frame, with a little of the first."""
    mixed = cross_fade(frames[-overlap:], frames[:overlap], eased=True)
    return np.concatenate([mixed, frames[overlap : len(frames) - overlap]])


def _overlap(frames: np.ndarray) -> int:
    """Return the smallest overlap whose fade has no visible start or end."""
    half = len(frames) // 2
    usual = float(steps(frames)[1:].max())
    for overlap in range(1, half):
        mixed = cross_fade(frames[-overlap:], frames[:overlap], eased=True)
        # The rest of the loop is unchanged.
        stretch = np.concatenate([frames[-overlap - 1 : -overlap], mixed, frames[overlap : overlap + 1]])
        found = steps(stretch)[1:]
        if max(found[0], found[-1]) <= _SEAM * usual and found.max() <= _EVEN * usual:
            return overlap
    return half


def _round(frames: np.ndarray) -> tuple[int, int]:
    """Return start and end, at least half the film apart, with the most similar neighbourhoods; on ties the longest."""
    n = len(frames)
    if n > _MOST:
        raise RequestError("loop", "cut", f"compares at most {_MOST} frames and there are {n}", "trim the film first")
    side = [max(1, length // _CELLS) for length in frames.shape[1:3]]
    seen = frames[:, :: side[0], :: side[1]].reshape(n, -1).astype(np.float64)
    squares = (seen**2).sum(1)
    apart = np.maximum(squares[:, None] + squares - 2 * seen @ seen.T, 0)
    # If frames agree but the ones before them do not, objects would reverse direction.
    total = apart.copy()
    total[1:, 1:] += apart[:-1, :-1]
    total[0] = total[:, 0] = 2 * apart[0]
    first, last = np.triu_indices(n, (n + 1) // 2)
    found = total[first, last].round(3)
    best = np.flatnonzero(found == found.min())
    longest = best[(last - first)[best].argmax()]
    return int(first[longest]), int(last[longest])
