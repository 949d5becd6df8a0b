"""A film that runs round: its last frame leads into its first."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.finishing.join import cross_fade
from flickbook.media.write import check_frames

Mode = Literal["pingpong", "blend", "cut"]
_LEAST: Final = {"pingpong": 2, "blend": 4, "cut": 6}
_MOST: Final = 2000  # frames that "cut" compares, each with each
_JUMP: Final = 1.5  # of the film's largest step, that a cut may jump
_SEAM: Final = 1.05  # of the film's largest step, that its joints may be
_EVEN: Final = 1.5  # of the film's largest step, that a fade may add up to in its middle
_CELLS: Final = 32  # a side of the pictures that "cut" compares


def loop(frames: np.ndarray, mode: Mode = "blend", overlap: int | None = None) -> np.ndarray:
    """`frames` (frames, height, width, 3) uint8 so that they can run round without a jump; a new array.

    "pingpong" runs forward and back, and shows neither end twice: 2 n - 2 frames. "blend" fades the last `overlap`
    frames into the first ones, and is that much shorter; left open, it is the fewest whose joints are no larger steps
    than the film has anyway, and half the film where none are. "cut" keeps the part, at least half of the film, after
    which the film comes nearest to where that part began: nothing is mixed. Raises RequestError for another mode, too
    few frames, an overlap of less than 1 or more than half, and a "cut" of a film that does not come round.
    """
    check_frames(frames)
    if mode not in get_args(Mode):
        raise RequestError("loop", mode, "must be pingpong, blend or cut", "blend suits most films")
    least = _LEAST[mode]
    if len(frames) < least:
        raise RequestError("loop", mode, f"needs {least} frames and there are {len(frames)}", "make a longer film")
    if overlap is not None and mode != "blend":
        raise RequestError("overlap", overlap, f"belongs to blend and not to {mode}", "leave it out")
    if mode == "pingpong":
        return np.concatenate([frames, frames[-2:0:-1]])
    if mode == "cut":
        start, end = _round(frames)
        seam, usual = _step(frames[end - 1], frames[start]), float(steps(frames)[1:].max())
        if seam > _JUMP * usual:
            limit = (
                f"finds no frame to go back to: the nearest is {seam:.1f} levels away, and steps are up to {usual:.1f}"
            )
            raise RequestError("loop", mode, limit, "choose blend or pingpong")
        return frames[start:end].copy()
    half = len(frames) // 2
    if overlap is not None and not 1 <= overlap <= half:
        raise RequestError(
            "overlap", overlap, f"must be 1 to {half}, half of the film", "leave it out to have it found"
        )
    return _blended(frames, _overlap(frames) if overlap is None else overlap)


def steps(frames: np.ndarray) -> np.ndarray:
    """How far each frame is from the one before it, the mean of all differences in levels; the first from the last.

    (n,) for `frames` (n, h, w, 3) uint8. Of a loop, the first number is its seam.
    """
    check_frames(frames)
    return np.array([_step(frames[t - 1], frames[t]) for t in range(len(frames))])


def _step(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.maximum(a, b) - np.minimum(a, b)).mean())


def _blended(frames: np.ndarray, overlap: int) -> np.ndarray:
    """The end fades into the beginning: the frame after the last is the end's next, with a little of the first."""
    mixed = cross_fade(frames[-overlap:], frames[:overlap], eased=True)
    return np.concatenate([mixed, frames[overlap : len(frames) - overlap]])


def _overlap(frames: np.ndarray) -> int:
    """The fewest frames of overlap that show neither where the fade begins nor where it ends."""
    half = len(frames) // 2
    usual = float(steps(frames)[1:].max())
    for overlap in range(1, half):
        mixed = cross_fade(frames[-overlap:], frames[:overlap], eased=True)
        # Everything else of the loop is the film as it was.
        stretch = np.concatenate([frames[-overlap - 1 : -overlap], mixed, frames[overlap : overlap + 1]])
        found = steps(stretch)[1:]
        if max(found[0], found[-1]) <= _SEAM * usual and found.max() <= _EVEN * usual:
            return overlap
    return half


def _round(frames: np.ndarray) -> tuple[int, int]:
    """Start and end, half the film or more apart, whose frames and neighbours are most alike; the longest of equals."""
    n = len(frames)
    if n > _MOST:
        raise RequestError("loop", "cut", f"compares at most {_MOST} frames and there are {n}", "trim the film first")
    side = [max(1, length // _CELLS) for length in frames.shape[1:3]]
    seen = frames[:, :: side[0], :: side[1]].reshape(n, -1).astype(np.float64)
    squares = (seen**2).sum(1)
    apart = np.maximum(squares[:, None] + squares - 2 * seen @ seen.T, 0)
    # Where frames agree but what comes before them does not, things would turn round in mid-flight.
    total = apart.copy()
    total[1:, 1:] += apart[:-1, :-1]
    total[0] = total[:, 0] = 2 * apart[0]
    first, last = np.triu_indices(n, (n + 1) // 2)
    found = total[first, last].round(3)
    best = np.flatnonzero(found == found.min())
    longest = best[(last - first)[best].argmax()]
    return int(first[longest]), int(last[longest])
