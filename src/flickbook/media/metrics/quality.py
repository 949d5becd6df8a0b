"""How good a film looks, in numbers that need no network: each score is one float from 0 to 1, and 1 is best.

`docs/quality.md` has every formula, what it was measured to see, and what it does not see. Most scores are made from
`cells`, the film in squares of a 32nd of its shorter side, so that they mean the same at every size, and noise averages
out. An amount of a fault becomes a score as 2 ** (-amount / half): "half" is the amount at which the score is 0.5.
`vbench_flicker` is a formula of Huang et al. 2024, "VBench: Comprehensive Benchmark Suite for Video Generative Models";
the others are ours, and where VBench has a counterpart that needs weights, the docstring says so. NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.write import check_frames, frame_rate

#: Every score, in the order in which they are shown.
NAMES = (
    "steady",
    "constant",
    "smooth",
    "moving",
    "sharp",
    "clean",
    "seamless",
    "not_frozen",
    "not_black",
    "not_noise",
    "vbench_flicker",
)
#: Below these a film gets a note from `faults`; `docs/quality.md` says how many clean films lie there.
LIMITS: dict[str, float] = {
    "steady": 0.5,
    "constant": 0.6,
    "smooth": 0.25,
    "moving": 0.05,
    "sharp": 0.25,
    "clean": 0.75,
    "seamless": 0.5,
}

_CELLS = 32  # along the shorter side
_SCALES = 4  # of `smooth`: 32, 16, 8 and 4 cells
_FEWEST = 4  # cells along the shorter side of the coarsest scale
_USUAL, _PASSING, _FAINT = 0.4, 8.0, 0.125  # share of the frames; times what is usual at a place; levels
_EVEN = 0.025  # levels: unsteadiness of the moments that every film is granted
_STILL = 0.5  # levels: what a change is measured against where there is next to none
_REPEAT, _REPEAT_LEAST = 0.02, 0.02  # of the film's usual change; levels: what a codec leaves of no change at all
_REPEAT_CELL = 6.0  # levels that no cell of a repeated frame may change by
_BLACK = 16.0  # levels: the brightest cell of a black frame, where limited-range video has its black
_NOISE = 30.0  # levels: the noise of a frame that is nothing else
_FLAT = 0.3  # of the squares of a frame, those with the least detail, where noise is read
_SHARP_FRAMES = 8
_SHARP_REACH = 4  # pixels either side of the middle: Crete's filter of 9
_MOVING_SHARE = 0.05  # of the picture, where most moves, as in VBench's dynamic degree
_MOVING_REACH = 2  # cells either side of the middle
_EDGES = 4.0  # levels a cell, red, green and blue together: fainter edges tell no distance
_FASTEST = 4.0  # cells a frame that a change can still be called a motion of
_VBENCH_FPS, _VBENCH_BAR = 8.0, 6 / 256  # frames a second; the way, in shorter sides, from which VBench says "moves"

_HALF_FLICKER = 0.8  # levels
_HALF_DRIFT = 8.0  # levels
_HALF_NOISE = 8.0  # levels
_HALF_SEAM = 4.0  # times the film's usual unsteadiness

_SAID = {
    "steady": "the light flickers",
    "constant": "the colours drift from the beginning to the end",
    "smooth": "the motion is jerky or out of order",
    "moving": "hardly anything moves",
    "sharp": "the picture is blurred",
    "clean": "the picture is noisy",
    "seamless": "the picture jumps at a seam",
}
_COUNTED = {
    "not_frozen": ("repeats the one before", "repeat the one before"),
    "not_black": ("is black", "are black"),
    "not_noise": ("is nothing but noise", "are nothing but noise"),
}


def scores(frames: np.ndarray, fps: float, *, seams: Sequence[int] = ()) -> dict[str, float]:
    """The scores of a film (n, height, width, 3) uint8, in the order of `NAMES`, to four places.

    `seams` are the first frames of the windows after the first, each 1 to n - 1; without any, "seamless" is 1. A film
    of two frames has no "steady" and no "smooth"; a picture has only "sharp", "clean", "not_black" and "not_noise".
    Raises RequestError for other arrays, rates or seams.
    """
    check_frames(frames)
    rate = float(frame_rate(fps))
    for seam in seams:
        if not 1 <= seam < len(frames):
            raise RequestError("seams", seam, f"must be 1 to {len(frames) - 1}", "give the first frame of each window")
    film = cells(frames)
    noise = np.array([grain(frame) for frame in frames])
    found = {
        "sharp": sharpness(frames),
        "clean": _halved(float(np.median(noise)), _HALF_NOISE),
        "not_black": 1 - float((film.max((1, 2, 3)) < _BLACK).mean()),
        "not_noise": 1 - float((noise > _NOISE).mean()),
    }
    if len(frames) > 1:
        change = changes(frames)
        found |= {
            "constant": _halved(drift(film), _HALF_DRIFT),
            "moving": 1 - _halved(speed(film) * rate, _CELLS * _VBENCH_BAR * _VBENCH_FPS),
            "seamless": _halved(jump(film, seams), _HALF_SEAM),
            "not_frozen": 1 - repeats(film, change) / len(frames),
            "vbench_flicker": (255 - float(change.mean())) / 255,
        }
    if len(frames) > 2:
        found |= {"steady": _halved(flicker(film), _HALF_FLICKER), "smooth": 1 - jerk(film)}
    return {name: round(found[name], 4) for name in NAMES if name in found}


def threshold(text: str, others: Sequence[str] = ()) -> tuple[str, float]:
    """The score and its least value, 0 to 1, of "NAME:VALUE"; `others` are scores that are not of this module.

    Raises RequestError, which names all of them.
    """
    names = ", ".join((*NAMES, *others))
    name, colon, value = text.partition(":")
    name = name.strip()
    if not colon:
        remedy = f"write steady:0.8 for instance; the names are {names}"
        raise RequestError("retry_below", text, "must be NAME:VALUE", remedy)
    if name not in (*NAMES, *others):
        raise RequestError("retry_below", name, "is not a score", f"name one of {names}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise RequestError("retry_below", value, f"{name} needs a number from 0 to 1", f"write {name}:0.8 for instance")
    return name, number


def faults(
    scores: Mapping[str, float], frames: int | None = None, expected: Collection[str] = frozenset()
) -> list[str]:
    """A line for people about each score that is below its limit; none for a film without a fault.

    With the number of `frames` the certain faults (repeated, black and noise frames) are counted in them, else in
    percent. The others are a judgement by `LIMITS`, and their lines show the score. Nothing is said of the scores that
    are `expected` to be low.
    """
    said = []
    scores = {name: value for name, value in scores.items() if name not in expected}
    for name, (one, more) in _COUNTED.items():
        share = 1 - scores.get(name, 1.0)
        count = round(share * frames) if frames else 0
        if count:
            said.append(f"{count} of {frames} frames {one if count == 1 else more}")
        elif share > 0:
            said.append(f"{100 * share:.2g} % of the frames {more}")
    for name, words in _SAID.items():
        if (value := scores.get(name, 1.0)) < LIMITS[name]:
            said.append(f"{words} ({name} {value:.2f}, under {LIMITS[name]:g})")
    return said


def cells(frames: np.ndarray) -> np.ndarray:
    """A film (n, height, width, 3) uint8 as the means (n, rows, columns, 3) float32 of squares, levels.

    A square is a 32nd of the shorter side, in whole pixels; what does not fill one at the right and below is left out.
    """
    count, height, width, _ = frames.shape
    side = max(1, min(height, width) // _CELLS)
    rows, columns = height // side, width // side
    found = np.empty((count, rows, columns, 3), np.float32)
    for cell, frame in zip(found, frames, strict=True):
        # Rows first: whole lines are added at once.
        lines = frame[: rows * side, : columns * side].reshape(rows, side, -1).sum(1, dtype=np.uint32)
        cell[:] = lines.reshape(rows, columns, side, 3).sum(2)
    return found / np.float32(side * side)


def changes(frames: np.ndarray) -> np.ndarray:
    """The mean absolute difference (n - 1,) of each frame (height, width, 3) uint8 and the next, levels.

    (255 - their mean) / 255 is VBench's temporal flickering, to the letter. VBench takes it of still scenes only, whose
    every change is a fault; of a film that moves it says how much moves as well.
    """
    return np.array([(np.maximum(a, b) - np.minimum(a, b)).mean(dtype=np.float64) for a, b in pairwise(frames)])


def repeats(film: np.ndarray, change: np.ndarray) -> int:
    """How many frames of a film (n, rows, columns, 3) of cells, with its `changes`, show what the one before showed.

    Next to nothing changes in the mean, against what usually does, and nothing much anywhere: something small may move.
    """
    nothing = change <= max(_REPEAT * float(np.median(change)), _REPEAT_LEAST)
    nowhere = np.abs(np.diff(film, axis=0)).max((1, 2, 3)) <= _REPEAT_CELL
    return int((nothing & nowhere).sum())


def flicker(film: np.ndarray) -> float:
    """The light that comes and goes within a frame, of a film (n, rows, columns, 3) of cells, n > 2, levels.

    How far a frame lies outside of the two beside it: 0 for what only rises or only falls, as a sunrise and an edge
    that passes do. No frame counts for more at a place than eight times what is usual there, which two fifths of the
    frames do not reach, or one level: a thing that passes is seen in a few frames, flicker in most.
    """
    before, here, after = film[:-2], film[1:-1], film[2:]
    low, high = np.minimum(before, after), np.maximum(before, after)
    outside = np.sort(np.maximum(here - high, 0) + np.maximum(low - here, 0), axis=0)
    usual = outside[int(len(outside) * _USUAL)]
    return float(np.minimum(outside, _PASSING * np.maximum(usual, _FAINT)).mean())


def drift(film: np.ndarray) -> float:
    """How far the colour moves from the first third of a film (n, rows, columns, 3) of cells to the last, levels.

    The median over the picture, of the channel that moves most: things that come, go or grow over less than half of
    the picture do not count.
    """
    third = max(1, len(film) // 3)
    moved = film[-third:].mean(0) - film[:third].mean(0)
    return float(np.abs(np.median(moved.reshape(-1, 3), axis=0)).max())


def speed(film: np.ndarray) -> float:
    """How far the fastest twentieth of a film (n, rows, columns, 3) of cells moves from a frame to the next, cells.

    An edge that moves by d changes d cells by its contrast, so change over gradient is the way, here in windows of five
    cells. What all cells have in common is a change of light and left out. VBench's dynamic degree takes the fastest
    twentieth of RAFT's optical flow and says yes or no.
    """
    change = np.diff(film, axis=0)
    change = np.abs(change - np.median(change, axis=(1, 2), keepdims=True)).sum(-1)
    down = np.abs(np.diff(film, axis=1, append=film[:, -1:])).sum(-1)
    across = np.abs(np.diff(film, axis=2, append=film[:, :, -1:])).sum(-1)
    edges = np.hypot(down, across)
    window = (2 * _MOVING_REACH + 1) ** 2
    gradient = _around((edges[1:] + edges[:-1]) / 2, _MOVING_REACH) + window * _EDGES
    way = np.minimum(_around(change, _MOVING_REACH) / gradient, _FASTEST).reshape(len(change), -1)
    most = max(1, int(way.shape[1] * _MOVING_SHARE))
    return float(np.partition(way, -most, axis=1)[:, -most:].mean())


def jerk(film: np.ndarray) -> float:
    """How badly each frame is predicted by the two beside it, of a film (n, rows, columns, 3) of cells, n > 2; 0 to 1.

    The distance of a frame from the mean of its neighbours over the mean distance to either: 0 where the middle is
    where it belongs, 1/3 for a step of one and a step of two, 1 for there and back. At four scales down to four cells,
    of which the smoothest counts: a mean of two frames is only a fair guess where things move less than a cell.
    VBench's motion smoothness drops every second frame, has an interpolation network, AMT, guess it, and does not
    divide by the motion.
    """
    found = []
    for level in _levels(film, _SCALES):
        steps = np.diff(level, axis=0)
        length, turn = _size(steps), _size(np.diff(steps, axis=0))
        found.append(float((turn / (length[1:] + length[:-1] + _STILL)).mean()))
    return min(found)


def jump(film: np.ndarray, seams: Sequence[int]) -> float:
    """How much the worst of the `seams` of a film (n, rows, columns, 3) of cells stands out; 0 without any.

    Each frame as its moments; the step into a seam's frame against what lies between the step before and the step
    after, so that a thing that turns back is no jump; over the same at the film's other frames (their median).
    """
    if not seams:
        return 0.0
    steps = np.diff(moments(film), axis=0)
    apart = np.array([_beside(steps, place) for place in range(len(steps))])
    near = {place for seam in seams for place in (seam - 2, seam - 1, seam)}
    other = [apart[place] for place in range(len(steps)) if place not in near]
    usual = float(np.median(other)) if other else 0.0
    return max(float(apart[seam - 1]) for seam in seams) / (usual + _EVEN)


def moments(film: np.ndarray) -> np.ndarray:
    """A film (n, rows, columns, 3) of cells as the means (n, 27) of each channel times 1, x, x^2 - 1/3, and so in y.

    x and y are -1 to 1. Moments move evenly with a thing however far it goes in a frame, where cells only do as long as
    it stays in them.
    """
    rows, columns = ((np.arange(size) + 0.5) * 2 / size - 1 for size in film.shape[1:3])
    down, across = (np.stack([x**0, x, x * x - 1 / 3]).astype(np.float32) / len(x) for x in (rows, columns))
    found = np.einsum("nrck,ir,jc->nijk", film, down, across, optimize=True)
    return np.asarray(found.reshape(len(film), -1), np.float64)


def _beside(steps: np.ndarray, place: int) -> float:
    """The root mean square distance of a step from the line between its neighbours, or from the only one; levels."""
    beside = [steps[other] for other in (place - 1, place + 1) if 0 <= other < len(steps)]
    if not beside:
        return 0.0
    line = beside[-1] - beside[0]
    share = float(line @ (steps[place] - beside[0])) / max(float(line @ line), 1e-9)
    return float(np.sqrt(((steps[place] - beside[0] - min(max(share, 0), 1) * line) ** 2).mean()))


def grain(frame: np.ndarray) -> float:
    """The standard deviation of the noise of a frame (height, width, 3) uint8, levels; 0 below 10 pixels a side.

    Immerkaer 1996, "Fast Noise Variance Estimation": what is left under [1 -2 1] across and down is not the picture.
    Green alone, in squares of 8 pixels, of which the third with the least counts: there the picture is flat.
    """
    green = frame[..., 1].astype(np.int16)
    rough = green[:-2] - 2 * green[1:-1] + green[2:]
    rough = np.abs(rough[:, :-2] - 2 * rough[:, 1:-1] + rough[:, 2:])
    rows, columns = rough.shape[0] // 8, rough.shape[1] // 8
    if not rows * columns:
        return 0.0
    lines = rough[: rows * 8, : columns * 8].reshape(rows, 8, -1).sum(1, dtype=np.int32)
    run_options = lines.reshape(rows, columns, 8).sum(2) / 64
    return float(np.quantile(run_options, _FLAT) * math.sqrt(math.pi / 2) / 6)


def sharpness(frames: np.ndarray) -> float:
    """The mean sharpness of up to eight of the frames (n, height, width, 3) uint8, evenly spaced; 0 to 1.

    1 - the blur of Crete, Dolmiere, Ladret and Nicolas 2007, "The Blur Effect: Perception and Estimation with a New
    No-Reference Perceptual Blur Metric": how much of its steps from pixel to pixel a picture loses when it is blurred,
    down or across, whichever is less. A picture of one colour has nothing sharp in it: 0.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_SHARP_FRAMES, len(frames))).round().astype(int))
    found = []
    for frame in frames[chosen]:
        grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        found.append(min(_lost(grey), _lost(np.ascontiguousarray(grey.T))))
    return float(np.mean(found))


def _lost(grey: np.ndarray) -> float:
    """The share of the steps down a picture (height, width) that a mean over nine rows takes away."""
    size = 2 * _SHARP_REACH + 1
    padded = np.pad(grey, ((_SHARP_REACH + 1, _SHARP_REACH), (0, 0)), mode="edge")
    # The difference of two neighbouring means of nine is that of two pixels nine apart.
    blurred = np.abs(padded[size + 1 :] - padded[1:-size]) / size
    steps = np.abs(np.diff(grey, axis=0))
    whole = float(steps.sum())
    return float(np.maximum(steps - blurred, 0).sum()) / whole if whole > 0 else 0.0


def _halved(amount: float, half: float) -> float:
    """1 for nothing, 0.5 for `half`, 0.25 for twice as much."""
    return float(2 ** (-amount / half))


def _size(x: np.ndarray) -> np.ndarray:
    """The root mean square of each of n pictures (n, rows, columns, 3)."""
    return np.asarray(np.sqrt(np.square(x).mean((1, 2, 3))))


def _around(x: np.ndarray, reach: int) -> np.ndarray:
    """The sum of the window of 2 reach + 1 cells around each cell of n pictures (n, rows, columns); outside is 0."""
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        wide = np.pad(x, pad)
        x = sum((np.roll(wide, -k, axis) for k in range(1, 2 * reach + 1)), wide)
        x = x.take(range(x.shape[axis] - 2 * reach), axis)
    return x


def _levels(film: np.ndarray, most: int) -> list[np.ndarray]:
    """A film (n, rows, columns, 3) at `most` scales or fewer, each half of the one before and at least four cells.

    Blurred by [1 2 1] / 4 and then by twos: the pyramid of Burt and Adelson 1983, with a smaller window.
    """
    found = [film]
    while len(found) < most and min(found[-1].shape[1:3]) >= 2 * _FEWEST:
        found.append(_half(_half(found[-1], 1), 2))
    return found


def _half(x: np.ndarray, axis: int) -> np.ndarray:
    """A film (n, rows, columns, 3), blurred and half as long along one axis; an odd line at the end is left out."""
    lines = x.swapaxes(0, axis)
    before, after = np.concatenate([lines[:1], lines[:-1]]), np.concatenate([lines[1:], lines[-1:]])
    soft = (before + 2 * lines + after) / 4
    whole = len(soft) // 2 * 2
    return np.asarray(((soft[:whole:2] + soft[1:whole:2]) / 2).swapaxes(0, axis))
