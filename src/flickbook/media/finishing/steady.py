"""Flicker removal: moves each frame's brightness and colour to a course smoothed over time. NumPy only.

Light is measured, not motion. Neighbouring frames are compared where they show the same content: one gain and one
offset per channel, plus a smooth field of gains if that leaves blotches. All comparisons together give the course of
the light through the film; the course is smoothed, and each frame is corrected to the smooth course. Pixels are not
blended, so nothing is softened. Pairwise comparison follows Farbman and Lischinski 2011, "Tonal Stabilization of
Video"; moving content is down-weighted as in Geman and McClure 1985, gradually (Blake and Zisserman 1987, "Visual
Reconstruction"); cross-validation (Stone 1974) selects the amount of smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.write import check_frames

_CELLS: Final = 40  # approximate number of cells along the short side that are compared; each is the mean of its pixels
_LAGS: Final = (1, 2, 4)  # distances in frames between compared frames
_BAND: Final = max(_LAGS)
_MIDDLE: Final = 128.0  # levels: offsets refer to middle grey, where they are least correlated with the gain
_LIKELY: Final = (0.06, 30.0)  # prior of gain and offset (levels), where the picture does not determine them
_CERTAIN: Final = 16.0  # weight of a picture against the prior, in independent cells
_GRAIN: Final = 0.25  # squared levels; rounding alone contributes a third of it
_FIRST, _LAST, _ROUNDS = 64.0, 2.0, 14  # levels of difference that count as motion, from lenient to strict
_ALIKE: Final = 8.0  # largest difference in levels between cells that show the same content
_CUT: Final = 0.15  # share of similar cells below which there is a cut
_STEP: Final = (8.0, 5.0, 4)  # levels, multiples of the flicker, frames: a larger lasting change is a cut or a lamp
_SPANS: Final = (1.5, 3.0, 6.0, 12.0, 24.0)  # frames: standard deviations of the candidate smoothing windows
_STILL: Final = (1.0, 0.1, 0.5)  # levels or share of the change, and share of the picture: limits of static content
_MEANT: Final = (math.log(4 / 3), 48.0)  # log gain and levels: a larger change over a film is intended, not drift
_NODES: Final = 8  # of the field of gains, along the short side
_BLOTCHES: Final = 0.5  # the share of the differences that a field must explain to be used
_FADING: Final = (1, 2, 3, 4, 5, 6)  # distances in frames from which values clipped at 0 or 255 are estimated


def flicker(frames: np.ndarray) -> float:
    """Return how much a film flickers: the mean absolute second difference in time of the means of red, green and blue.

    In levels of 0 to 255. Moving objects and even changes of light contribute almost nothing. `frames` is (frames,
    height, width, 3) uint8; fewer than three frames give 0. Raises RequestError for other arrays.
    """
    check_frames(frames)
    if len(frames) < 3:
        return 0.0
    run_options = np.stack([frame.mean((0, 1), dtype=np.float64) for frame in frames])
    return float(np.abs(np.diff(run_options, 2, axis=0)).mean())


def steady(frames: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Return `frames` (frames, height, width, 3) uint8 without flicker and without slow colour drift; a new array.

    `strength` is 0 (unchanged) to 1 (full). Flicker is the deviation from the smoothed course of the light. A slow
    change is treated as drift, and reset to the film's beginning, only if at least half of the picture is static and
    changes uniformly, by at most a quarter; a sunrise is kept. Each scene between cuts is processed separately; scenes
    of fewer than three frames are unchanged. Values clipped at 0 or 255 are restored only as one level. Raises
    RequestError for other arrays or another strength.
    """
    check_frames(frames)
    if not 0 <= strength <= 1:
        raise RequestError("strength", strength, "must be 0 to 1", "1 takes all flicker away, 0.5 half of it")
    done = frames.copy()
    if len(frames) < 3 or strength == 0:
        return done
    small = _Small.of(frames)
    for piece in _pieces(small, 0, len(frames)):
        course = piece.course
        aim = _aim(course, small.part(piece.start, piece.end))
        gain = np.exp(strength * (aim[:, 0] - course[:, 0]))
        offset = strength * (aim[:, 1] - course[:, 1]) + (1 - gain) * (_MIDDLE + course[:, 1])
        part = small.part(piece.start, piece.end).lit(gain, offset)
        fields = _fields(part)
        for t in range(piece.end - piece.start):
            field = None if fields is None else strength * fields[t]
            done[piece.start + t] = _lit(frames[piece.start + t], gain[t], offset[t], part.cut_off(t), field)
    return done


def _lit(
    frame: np.ndarray, gain: np.ndarray, offset: np.ndarray, cut_off: np.ndarray, field: np.ndarray | None
) -> np.ndarray:
    """Apply gain and offset (3,), log gains `field`, and `cut_off` (2, 3) at the clipped ends, to a frame (h, w, 3)."""
    levels = np.arange(256)[:, None] * gain + offset
    levels[0] += cut_off[0]
    levels[255] += cut_off[1]
    if field is None:
        table = levels.clip(0, 255).round().astype(np.uint8)
        return np.stack([table[frame[..., c], c] for c in range(3)], axis=-1)
    rows, columns = _basis(frame.shape[0], field.shape[0]), _basis(frame.shape[1], field.shape[1])
    lit = np.stack([levels[frame[..., c], c] for c in range(3)], axis=-1) * np.exp(_spread(field, rows, columns))
    return np.asarray(lit.clip(0, 255).round().astype(np.uint8))


@dataclass(frozen=True, eq=False)
class _Small:
    """A film in cells (n, h, w, 3): `mean`, and `end`: -1 all pixels at 0, 1 all at 255, 2 some at either."""

    mean: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> _Small:
        """Compute the cells of (n, h, w, 3) uint8, squares of pixels; incomplete squares are dropped."""
        n, height, width, _ = frames.shape
        side = max(1, min(height, width) // _CELLS)
        h, w = height // side, width // side
        mean, end = np.empty((n, h, w, 3), np.float32), np.zeros((n, h, w, 3), np.int8)
        for t in range(n):
            cells = frames[t, : h * side, : w * side].reshape(h, side, w, side, 3)
            mean[t] = cells.mean((1, 3), dtype=np.float32)
            low, high = cells.min((1, 3)), cells.max((1, 3))
            end[t][(low == 0) | (high == 255)] = 2
            end[t][high == 0] = -1
            end[t][low == 255] = 1
        return cls(mean, end)

    def part(self, start: int, end: int) -> _Small:
        """Return the frames `start` to `end`, end excluded."""
        return _Small(self.mean[start:end], self.end[start:end])

    def lit(self, gain: np.ndarray, offset: np.ndarray) -> _Small:
        """Apply gain and offset (n, 3) to the cells."""
        return _Small((self.mean * gain[:, None, None] + offset[:, None, None]).astype(np.float32), self.end)

    def cut_off(self, t: int) -> np.ndarray:
        """Estimate from nearby frames how far (2, 3), in levels, the clipped values of frame t lie beyond 0 and 255."""
        beyond = np.zeros((2, 3))
        near = [s for lag in _FADING for s in (t - lag, t + lag) if 0 <= s < len(self.mean)]
        for row, end in ((0, -1), (1, 1)):
            for c in np.flatnonzero((self.end[t] == end).any((0, 1))):
                lost = self.end[t, ..., c] == end
                for s in near:
                    seen = lost & (self.end[s, ..., c] == 0)
                    if 2 * seen.sum() >= lost.sum():
                        found = float(np.median((self.mean[s, ..., c] - self.mean[t, ..., c])[seen]))
                        beyond[row, c] = end * max(0.0, end * found)
                        break
        return beyond


@dataclass(frozen=True, eq=False)
class _Link:
    """Frame `late` is gain (3,) times `early` plus offset (3,), about middle grey; `share` of the cells agree."""

    early: int
    late: int
    gain: np.ndarray
    offset: np.ndarray
    share: float


@dataclass(frozen=True, eq=False)
class _Piece:
    """A scene between cuts, and the course (n, 2, 3) of its light: log gains, and offsets at middle grey."""

    start: int
    end: int
    course: np.ndarray


def _pieces(small: _Small, start: int, end: int) -> list[_Piece]:
    """Return the scenes within `start` to `end` that are long enough to be processed."""
    links = [_link(small, t - lag, t) for lag in _LAGS for t in range(start + lag, end)]
    cuts = [link.late for link in links if link.late - link.early == 1 and link.share < _CUT]
    waiting = list(pairwise([start, *cuts, end]))
    done: list[_Piece] = []
    while waiting:
        first, last = waiting.pop()
        if last - first < 3:
            continue
        course = _course([link for link in links if first <= link.early and link.late < last], first, last)
        step = _step(course)
        if step:
            waiting += [(first, first + step), (first + step, last)]
        else:
            done.append(_Piece(first, last, course))
    return done


def _link(small: _Small, early: int, late: int) -> _Link:
    """Compare two frames where they show the same content, by means and spreads that down-weight motion.

    A cell clipped at 0 or 255 counts only if it contradicts the fit, because its true value is unknown.
    """
    # Channels first, so that sums over cells are contiguous.
    x, y = (small.mean[t].reshape(-1, 3).T.astype(np.float64, order="C") - _MIDDLE for t in (early, late))
    endx, endy = (np.ascontiguousarray(small.end[t].reshape(-1, 3).T) for t in (early, late))
    usable = (endx != 2) & (endy != 2)
    count, seen = np.maximum(usable.sum(0), 1), usable.any(0)
    gain, offset, scale = np.ones((3, 1)), np.zeros((3, 1)), _FIRST
    near = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        rest = y - (gain * x + offset)
        counts = usable & ~((endy * rest < 0) | (endx * rest > 0))
        squares = rest * rest * counts
        near = squares.sum(0) / count
        weight = (scale**2 / (scale**2 + near)) ** 2 * counts / x.shape[1]
        one = weight.sum(1, keepdims=True) + 1e-9
        noise = np.maximum((weight * squares).sum(1, keepdims=True) / one, _GRAIN)
        x0, y0 = ((weight * v).sum(1, keepdims=True) / one for v in (x, y))
        # Regression of y on x alone would read grain as a smaller gain; the ratio of the spreads is symmetric.
        expected = noise / (_CERTAIN * _LIKELY[0] ** 2)
        spread = [(weight * (v - v0) ** 2).sum(1, keepdims=True) + expected for v, v0 in ((x, x0), (y, y0))]
        gain = np.sqrt(spread[1] / spread[0]).clip(0.5, 2)
        offset = (y0 - gain * x0) * one / (one + noise / (_CERTAIN * _LIKELY[1] ** 2))
        typical = 1.5 * math.sqrt(float(np.median(near[seen]))) if seen.any() else 0.0
        scale = max(_LAST, min(typical, _ALIKE), 0.7 * scale)
    return _Link(early, late, gain[:, 0], offset[:, 0], float(((near < _ALIKE**2) & seen).mean()))


def _course(links: list[_Link], start: int, end: int) -> np.ndarray:
    """Return the course (n, 2, 3) of the light of frames `start` to `end` that fits their links best."""
    ends = np.array([(link.early - start, link.late - start) for link in links])
    share = np.array([link.share for link in links])[:, None] ** 2 + 1e-3
    gains = np.log([link.gain for link in links])
    offsets = np.array([link.offset for link in links])
    gain = _agreed(end - start, ends, np.ones_like(gains), gains, share, 0.005)
    ratio = np.exp(gain[ends[:, 1]] - gain[ends[:, 0]])
    return np.stack([gain, _agreed(end - start, ends, ratio, offsets, share, 0.7)], axis=1)


def _agreed(
    n: int, ends: np.ndarray, ratio: np.ndarray, value: np.ndarray, trust: np.ndarray, fine: float
) -> np.ndarray:
    """Solve x[late] = ratio x[early] + value over all links for x (n, k), by robust least squares.

    `ends` is (links, 2), `ratio`, `value` and `trust` (links, k). Links with a residual above `fine` lose weight.
    """
    weight = np.broadcast_to(trust, value.shape)
    early, late = ends.T
    x = np.zeros((n, value.shape[1]))
    for _ in range(5):
        band, right = np.zeros((n, _BAND + 1, value.shape[1])), np.zeros((n, value.shape[1]))
        band[:, 0] = 1e-6  # regularises the absolute level, because links only determine differences
        np.add.at(band, (late, 0), weight)
        np.add.at(band, (early, 0), weight * ratio**2)
        np.add.at(band, (late, late - early), -weight * ratio)
        np.add.at(right, late, weight * value)
        np.add.at(right, early, -weight * ratio * value)
        x = _solved(band, right)
        weight = trust / (1 + ((value - (x[late] - ratio * x[early])) / fine) ** 2)
    return x


def _solved(band: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve A x = right (n, k) for k symmetric banded systems: A[t, t - j] = band[t, j]."""
    n = len(band)
    lower, x = band.copy(), right.copy()
    for t in range(n):
        reach = range(max(0, t - _BAND), t)
        for j in reach:  # L D L^T, row by row
            for m in range(reach.start, j):
                lower[t, t - j] -= lower[t, t - m] * lower[m, 0] * lower[j, j - m] if j - m <= _BAND else 0
            lower[t, t - j] /= lower[j, 0]
        for j in reach:
            lower[t, 0] -= lower[t, t - j] ** 2 * lower[j, 0]
            x[t] -= lower[t, t - j] * x[j]
    x /= lower[:, 0]
    for t in reversed(range(n)):
        for j in range(max(0, t - _BAND), t):
            x[j] -= lower[t, t - j] * x[t]
    return x


def _levels(course: np.ndarray) -> np.ndarray:
    """Convert a course (n, 2, 3) to (n, 6) in levels: the gain's effect at the end of the scale, and the offset."""
    return np.asarray((course * np.array([_MIDDLE, 1.0])[:, None]).reshape(len(course), -1))


def _step(course: np.ndarray) -> int:
    """Return the frame at which the light changes abruptly and permanently, 0 if there is none."""
    least, multiple, frames = _STEP
    levels = _levels(course)
    if len(levels) < 6:
        return 0
    noise = np.abs(np.diff(levels, 2, axis=0)).mean(1)
    jumps = np.zeros(len(levels))
    for t in range(3, len(levels) - 2):
        before, after = levels[max(0, t - frames) : t], levels[t : t + frames]
        # The trend before and after is not part of the jump.
        slope = np.median(np.concatenate([np.diff(before, axis=0), np.diff(after, axis=0)]), axis=0)
        way = slope * (len(before) + len(after)) / 2
        jumps[t] = np.abs(np.median(after, 0) - np.median(before, 0) - way).mean()
    best = int(jumps.argmax())
    return best if jumps[best] > max(least, multiple * float(np.median(noise))) else 0


def _smooth(x: np.ndarray) -> np.ndarray:
    """Smooth x (n, k) in time by local linear regression, with the window that predicts left-out frames best."""
    n, best, found = len(x), math.inf, x
    for span in _SPANS:
        reach = min(n - 1, math.ceil(3 * span))
        s0, s1, s2 = np.zeros(n), np.zeros(n), np.zeros(n)
        t0, t1 = np.zeros_like(x), np.zeros_like(x)
        for d in range(-reach, reach + 1):
            weight = math.exp(-0.5 * (d / span) ** 2)
            here, there = slice(max(0, -d), n - max(0, d)), slice(max(0, d), n + min(0, d))
            s0[here] += weight
            s1[here] += weight * d
            s2[here] += weight * d * d
            t0[here] += weight * x[there]
            t1[here] += weight * d * x[there]
        whole = s0 * s2 - s1**2
        line = (s2[:, None] * t0 - s1[:, None] * t1) / whole[:, None]
        residuals = (x - line) / np.maximum(1 - s2 / whole, 1e-6)[:, None]
        error = float((residuals**2).sum())
        if error < best:
            best, found = error, line
    return found


def _aim(course: np.ndarray, small: _Small) -> np.ndarray:
    """Return the target (n, 2, 3) of a scene's light: its smoothed course, or a constant if it only drifted."""
    smooth = _smooth(_levels(course)).reshape(course.shape) / np.array([_MIDDLE, 1.0])[:, None]
    change = np.abs(smooth - smooth[:1]).max((0, 2))
    if (change > _MEANT).any():
        return np.asarray(smooth)
    # A camera that pans over a sky also changes the light, but then not even half of the picture changes uniformly.
    gain = np.exp(course[:1, 0] - course[:, 0])
    even = small.lit(gain, course[:1, 1] + _MIDDLE - gain * (_MIDDLE + course[:, 1]))
    quarter = max(1, len(course) // 4)
    shown = (even.end[:quarter] == 0) & (even.end[-quarter:] == 0)
    away = np.where(shown, even.mean[-quarter:] - even.mean[:quarter], 0)
    near = max(_STILL[0], _STILL[1] * float((change * [_MIDDLE, 1]).max()))
    if np.median(((away**2).mean(-1) < near**2).mean((1, 2))) < _STILL[2]:
        return np.asarray(smooth)
    # Flicker alone has no trend: then the mean is a better estimate than any single frame.
    time = np.arange(len(course)) - (len(course) - 1) / 2
    slope = np.tensordot(time, course, 1) / (time**2).sum()
    rest = course - course.mean(0) - time[:, None, None] * slope
    error = np.sqrt((rest**2).sum(0) / max(1, len(course) - 2) / (time**2).sum())
    drifts = (np.abs(slope) > 4 * error + 1e-9).any()
    return np.array(np.broadcast_to(smooth[0] if drifts else course.mean(0), course.shape))


def _basis(length: int, nodes: int) -> np.ndarray:
    """Return the weights (length, nodes) of each node of a field at each place: Gaussians that sum to 1."""
    at, node = (np.arange(length) + 0.5) / length, (np.arange(nodes) + 0.5) / nodes
    bells = np.exp(-0.5 * ((at[:, None] - node) * nodes / 0.55) ** 2)
    return np.asarray(bells / bells.sum(1, keepdims=True))


def _spread(field: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate a field (nodes, nodes, 3) at every place (h, w, 3)."""
    return np.asarray(columns @ np.tensordot(rows, field, 1))


def _fields(small: _Small) -> np.ndarray | None:
    """Return the log gains (n, nodes, nodes, 3) that remove the blotches of a scene; None if there are none."""
    n, h, w, _ = small.mean.shape
    nodes = [min(side, max(2, round(_NODES * side / min(h, w)))) for side in (h, w)]
    rows, columns = _basis(h, nodes[0]), _basis(w, nodes[1])
    probe = [_field(small, t - 1, t, rows, columns) for t in np.unique(np.linspace(1, n - 1, 16).astype(int))]
    before, after = sum(each[2] for each in probe), sum(each[3] for each in probe)
    if after >= (1 - _BLOTCHES) * before:
        return None
    ends = np.array([(t - lag, t) for lag in _LAGS for t in range(lag, n)])
    found = [_field(small, early, late, rows, columns) for early, late in ends]
    value = np.stack([np.log1p(each[0].clip(-0.5, 1)).ravel() for each in found])
    trust = np.stack([each[1].ravel() for each in found]) + 1e-3
    course = _agreed(n, ends, np.ones_like(value), value, trust, 0.02)
    return np.asarray((_smooth(course) - course).reshape(n, *nodes, 3))


def _field(
    small: _Small, early: int, late: int, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Fit the gains less 1 (nodes, nodes, 3) between two frames.

    Also returns their reliability, and the squared differences of static content before and after.
    """
    x, y = small.mean[early].astype(np.float64), small.mean[late].astype(np.float64)
    seen = ((small.end[early] == 0) & (small.end[late] == 0)).all(-1, keepdims=True)
    field = np.zeros((rows.shape[1], columns.shape[1], 3))
    scale, weight, rest = _FIRST / 2, np.zeros_like(x[..., :1]), y - x

    def gathered(values: np.ndarray) -> np.ndarray:
        return np.tensordot(rows.T, columns.T @ values, 1)

    for _ in range(_ROUNDS):
        weight = (scale**2 / (scale**2 + (rest**2).mean(-1, keepdims=True))) ** 2 * seen
        field += gathered(weight * x * rest) / (gathered(weight * x * x) + _MIDDLE)
        rest = y - x * (1 + _spread(field, rows, columns))
        scale = max(_LAST, 0.7 * scale)
    trust = gathered(np.broadcast_to(weight, x.shape)) / gathered(np.ones_like(x))
    return field, trust, float((weight * (y - x) ** 2).sum()), float((weight * rest**2).sum())
