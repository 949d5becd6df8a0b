"""Quality scores of films that need no neural network: each is a float from 0 to 1, where 1 is best.

`docs/quality.md` documents every formula, what it was validated on, and what it misses. Most scores use `cells`: the
film averaged over squares of a 32nd of its shorter side, so that scores are comparable across sizes and noise averages
out. The amount of a fault is converted to a score as 2 ** (-amount / half): at the amount `half` the score is 0.5.
`vbench_flicker` is a formula of Huang et al. 2024, "VBench: Comprehensive Benchmark Suite for Video Generative Models";
the others are Flickbook's own, and where VBench has a counterpart that needs weights, the docstring says so. NumPy
only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.write import check_frames, frame_rate

#: Every score, in display order.
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
#: A film gets a note from `faults` below these values; `docs/quality.md` says how many clean films are below.
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
_USUAL, _PASSING, _FAINT = 0.4, 8.0, 0.125  # share of the frames; multiple of the usual value at a place; levels
_EVEN = 0.025  # levels: unsteadiness of the moments that every film may have
_STILL = 0.5  # levels: the change that still scenes are measured against
_REPEAT, _REPEAT_LEAST = 0.02, 0.02  # share of the usual change; levels: change that a codec adds to a repeated frame
_REPEAT_CELL = 6.0  # levels: no cell of a repeated frame changes by more
_BLACK = 16.0  # levels: the brightest cell of a black frame; black in limited range
_NOISE = 30.0  # levels: the noise of a frame that is only noise
_FLAT = 0.3  # share of a frame's squares, those with the least detail, in which noise is measured
_SHARP_FRAMES = 8
_SHARP_REACH = 4  # pixels on either side of the centre: Crete's filter of 9
_MOVING_SHARE = 0.05  # share of the picture that moves most, as in VBench's dynamic degree
_MOVING_REACH = 2  # cells on either side of the centre
_EDGES = 4.0  # levels per cell, sum of red, green and blue: fainter edges give no distance
_FASTEST = 4.0  # cells per frame: the largest change that is still counted as motion
_VBENCH_FPS, _VBENCH_BAR = 8.0, 6 / 256  # frames per second; VBench's motion threshold in shorter sides

_HALF_FLICKER = 0.8  # levels
_HALF_DRIFT = 8.0  # levels
_HALF_NOISE = 8.0  # levels
_HALF_SEAM = 4.0  # multiples of the film's usual unsteadiness

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
    """Return the scores of a film (n, height, width, 3) uint8, in the order of `NAMES`, rounded to four places.

    `seams` are the first frames of all windows but the first, each 1 to n - 1; without any, "seamless" is 1. A film of
    two frames has no "steady" and no "smooth"; an image has only "sharp", "clean", "not_black" and "not_noise". Raises
    RequestError for other arrays, rates or seams.
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
    """Parse "NAME:VALUE": the name of a score and its least value, 0 to 1. `others` are scores of other modules.

    Raises RequestError, which lists all names.
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
    """Return one line for the user about each score below its limit; an empty list for a film without faults.

    With the number of `frames`, the certain faults (repeated, black and noise frames) are counted in frames, otherwise
    in percent. The others are judged by `LIMITS`, and their lines include the score. Scores in `expected` are omitted.
    """
    messages = []
    scores = {name: value for name, value in scores.items() if name not in expected}
    for name, (one, more) in _COUNTED.items():
        share = 1 - scores.get(name, 1.0)
        count = round(share * frames) if frames else 0
        if count:
            messages.append(f"{count} of {frames} frames {one if count == 1 else more}")
        elif share > 0:
            messages.append(f"{100 * share:.2g} % of the frames {more}")
    for name, words in _SAID.items():
        if (value := scores.get(name, 1.0)) < LIMITS[name]:
            messages.append(f"{words} ({name} {value:.2f}, under {LIMITS[name]:g})")
    return messages


def cells(frames: np.ndarray) -> np.ndarray:
    """Average a film (n, height, width, 3) uint8 over squares: (n, rows, columns, 3) float32, in levels.

    A square is a 32nd of the shorter side, in whole pixels; incomplete squares at the right and the bottom are dropped.
    """
    count, height, width, _ = frames.shape
    side = max(1, min(height, width) // _CELLS)
    rows, columns = height // side, width // side
    found = np.empty((count, rows, columns, 3), np.float32)
    for cell, frame in zip(found, frames, strict=True):
        # Sum rows first, because whole lines are contiguous.
        lines = frame[: rows * side, : columns * side].reshape(rows, side, -1).sum(1, dtype=np.uint32)
        cell[:] = lines.reshape(rows, columns, side, 3).sum(2)
    return found / np.float32(side * side)


def changes(frames: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference (n - 1,) of neighbouring frames (height, width, 3) uint8, in levels.

    (255 - their mean) / 255 is exactly VBench's temporal flickering. VBench applies it only to still scenes, where
    every change is a fault; in a moving film it also measures the amount of motion.
    """
    return np.array([(np.maximum(a, b) - np.minimum(a, b)).mean(dtype=np.float64) for a, b in pairwise(frames)])


def repeats(film: np.ndarray, change: np.ndarray) -> int:
    """Count the frames of a film (n, rows, columns, 3) of cells, with its `changes`, that repeat the previous frame.

    In a repeated frame, the mean change is negligible compared with the film's usual change, and no cell changes much,
    because a small object may move.
    """
    nothing = change <= max(_REPEAT * float(np.median(change)), _REPEAT_LEAST)
    nowhere = np.abs(np.diff(film, axis=0)).max((1, 2, 3)) <= _REPEAT_CELL
    return int((nothing & nowhere).sum())


def flicker(film: np.ndarray) -> float:
    """Return the flicker of a film (n, rows, columns, 3) of cells, n > 2, in levels.

    It is the distance by which a cell lies outside the range of its two neighbours in time: 0 for monotonic changes
    such as a sunrise or a passing edge. At each place, a frame counts at most eight times the usual distance there (two
    fifths of the frames are below it), or one level: a passing object is seen in a few frames, flicker in most.
    """
    before, here, after = film[:-2], film[1:-1], film[2:]
    low, high = np.minimum(before, after), np.maximum(before, after)
    outside = np.sort(np.maximum(here - high, 0) + np.maximum(low - here, 0), axis=0)
    usual = outside[int(len(outside) * _USUAL)]
    return float(np.minimum(outside, _PASSING * np.maximum(usual, _FAINT)).mean())


def drift(film: np.ndarray) -> float:
    """Return the colour change of a film (n, rows, columns, 3) of cells from its first to its last third, in levels.

    It is the median over the picture of the channel that changes most: objects that appear, leave or grow over less
    than half of the picture do not count.
    """
    third = max(1, len(film) // 3)
    moved = film[-third:].mean(0) - film[:third].mean(0)
    return float(np.abs(np.median(moved.reshape(-1, 3), axis=0)).max())


def speed(film: np.ndarray) -> float:
    """Return the motion per frame of the fastest twentieth of a film (n, rows, columns, 3) of cells, in cells.

    An edge that moves by d changes d cells by its contrast, so motion is change divided by gradient, here in windows of
    five cells. A change common to all cells is a change of light and is subtracted. VBench's dynamic degree thresholds
    the fastest twentieth of RAFT's optical flow.
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
    """Return how badly neighbours predict each frame of a film (n, rows, columns, 3) of cells, n > 2; 0 to 1.

    It is the distance of a frame from the mean of its neighbours, divided by the mean distance to either: 0 for even
    motion, 1/3 for a step of one followed by a step of two, 1 for there and back. The smoothest of four scales down to
    four cells counts, because the mean of two frames predicts well only motion of less than a cell. VBench's motion
    smoothness drops every second frame, has an interpolation network (AMT) predict it, and does not divide by the
    motion.
    """
    found = []
    for level in _levels(film, _SCALES):
        steps = np.diff(level, axis=0)
        length, turn = _size(steps), _size(np.diff(steps, axis=0))
        found.append(float((turn / (length[1:] + length[:-1] + _STILL)).mean()))
    return min(found)


def jump(film: np.ndarray, seams: Sequence[int]) -> float:
    """Return how much the worst of the `seams` of a film (n, rows, columns, 3) of cells stands out; 0 without seams.

    Frames are represented by their moments. The step into a seam's frame is compared with the range between the step
    before and the step after, so that an object that turns back is not a jump, and divided by the median of the same
    measure at the other frames.
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
    """Return the moments (n, 27) of the frames of a film (n, rows, columns, 3) of cells.

    They are the means of each channel times 1, x, x^2 - 1/3, and the same in y; x and y are -1 to 1. Moments change
    evenly with an object's motion at any speed; cells only while it stays inside them.
    """
    rows, columns = ((np.arange(size) + 0.5) * 2 / size - 1 for size in film.shape[1:3])
    down, across = (np.stack([x**0, x, x * x - 1 / 3]).astype(np.float32) / len(x) for x in (rows, columns))
    found = np.einsum("nrck,ir,jc->nijk", film, down, across, optimize=True)
    return np.asarray(found.reshape(len(film), -1), np.float64)


def _beside(steps: np.ndarray, place: int) -> float:
    """Return the RMS distance of a step from the line between its neighbours, or from the only one; levels."""
    beside = [steps[other] for other in (place - 1, place + 1) if 0 <= other < len(steps)]
    if not beside:
        return 0.0
    line = beside[-1] - beside[0]
    share = float(line @ (steps[place] - beside[0])) / max(float(line @ line), 1e-9)
    return float(np.sqrt(((steps[place] - beside[0] - min(max(share, 0), 1) * line) ** 2).mean()))


def grain(frame: np.ndarray) -> float:
    """Return the standard deviation of a frame's noise in levels; 0 below 10 pixels a side.

    `frame` is (height, width, 3) uint8. Immerkaer 1996, "Fast Noise Variance Estimation": the response to [1 -2 1]
    along both axes is mostly noise. Only green is used, in squares of 8 pixels, of which the third with the least
    response counts, because the picture is flat there.
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
    """Return the mean sharpness of up to eight frames of (n, height, width, 3) uint8, evenly spaced; 0 to 1.

    1 - the blur of Crete, Dolmiere, Ladret and Nicolas 2007, "The Blur Effect: Perception and Estimation with a New
    No-Reference Perceptual Blur Metric": the share of pixel-to-pixel differences that an image loses when it is blurred
    vertically or horizontally, whichever is less. An image of one colour has a sharpness of 0.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_SHARP_FRAMES, len(frames))).round().astype(int))
    found = []
    for frame in frames[chosen]:
        grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        found.append(min(_lost(grey), _lost(np.ascontiguousarray(grey.T))))
    return float(np.mean(found))


def _lost(grey: np.ndarray) -> float:
    """Return the share of the vertical differences of an image (height, width) that a mean over nine rows removes."""
    size = 2 * _SHARP_REACH + 1
    padded = np.pad(grey, ((_SHARP_REACH + 1, _SHARP_REACH), (0, 0)), mode="edge")
    # The difference of neighbouring means of nine is that of two pixels nine apart.
    blurred = np.abs(padded[size + 1 :] - padded[1:-size]) / size
    steps = np.abs(np.diff(grey, axis=0))
    whole = float(steps.sum())
    return float(np.maximum(steps - blurred, 0).sum()) / whole if whole > 0 else 0.0


def _halved(amount: float, half: float) -> float:
    """Convert an amount to a score: 1 for 0, 0.5 for `half`, 0.25 for twice as much."""
    return float(2 ** (-amount / half))


def _size(x: np.ndarray) -> np.ndarray:
    """Return the root mean square of each of n pictures (n, rows, columns, 3)."""
    return np.asarray(np.sqrt(np.square(x).mean((1, 2, 3))))


def _around(x: np.ndarray, reach: int) -> np.ndarray:
    """Sum the window of 2 reach + 1 cells around each cell of n pictures (n, rows, columns), zero-padded."""
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        wide = np.pad(x, pad)
        x = sum((np.roll(wide, -k, axis) for k in range(1, 2 * reach + 1)), wide)
        x = x.take(range(x.shape[axis] - 2 * reach), axis)
    return x


def _levels(film: np.ndarray, most: int) -> list[np.ndarray]:
    """Return a film (n, rows, columns, 3) at up to `most` scales, each half the previous, of at least four cells.

    A Gaussian pyramid (Burt and Adelson 1983) with the smaller window [1 2 1] / 4.
    """
    found = [film]
    while len(found) < most and min(found[-1].shape[1:3]) >= 2 * _FEWEST:
        found.append(_half(_half(found[-1], 1), 2))
    return found


def _half(x: np.ndarray, axis: int) -> np.ndarray:
    """Blur a film (n, rows, columns, 3) and halve it along one axis; an odd line at the end is dropped."""
    lines = x.swapaxes(0, axis)
    before, after = np.concatenate([lines[:1], lines[:-1]]), np.concatenate([lines[1:], lines[-1:]])
    soft = (before + 2 * lines + after) / 4
    whole = len(soft) // 2 * 2
    return np.asarray(((soft[:whole:2] + soft[1:whole:2]) / 2).swapaxes(0, axis))
