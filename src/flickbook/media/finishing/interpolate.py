"""Frame interpolation: objects move between frames instead of fading from one place to the other.

For a time t between two frames, every pixel of both is moved to its place at t, with a weight that says how far its
motion can be trusted (splatting as in Niklaus and Liu 2020, "Softmax Splatting for Video Frame Interpolation", arXiv
2003.05534; here the motion is splatted and colours are then looked up, which keeps edges sharp). Regions visible in
only one frame are taken from that frame. Neighbouring frames bend the motion path (Xu et al. 2019, "Quadratic Video
Interpolation", arXiv 1911.00627).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.errors import MissingExtra, RequestError
from flickbook.media.finishing import flow
from flickbook.media.finishing.flow import Way, grid, length, main_motion, sampled, warped, ways
from flickbook.media.write import check_frames

FACTORS: Final = range(2, 9)
_CHANGED: Final = 30  # levels of difference above which a pixel has changed
_CUT: Final = 0.5  # share of changed pixels, and of lost colours, that makes a cut
_LOST: Final = 0.4  # share of pixels without a match in either direction that also makes a cut
_LEAST: Final = 0.03  # weight of an untrusted pixel: it must land somewhere if nothing better does
_FRONT: Final = 0.03  # depth per pixel of motion relative to the whole: all else equal, moving objects are in front
_BEHIND: Final = 0.3  # the same for pixels visible in one frame only, with the opposite sign
_FASTEST: Final = 60.0  # pixels of motion at which that saturates
_STEPS: Final = 64  # sub-pixel steps: finer positions would spread a static pixel over four, which costs time
#: Radii (pixels) from which gaps are filled, and the weight of the fill where there is no gap.
_FILLS: Final = ((2, 1e-2), (6, 1e-4), (24, 1e-6))

Between = Callable[[float], np.ndarray]


def interpolate(frames: np.ndarray, factor: int, *, model: str | Path | None = None) -> np.ndarray:
    """Frames (n, h, w, 3) uint8 -> (n * factor, h, w, 3) uint8: `factor` - 1 new frames after each frame.

    `factor` is 2 to 8, and the caller multiplies the frame rate by it: n frames at f last n / f seconds, as do n *
    factor frames at f * factor. The last frame is repeated `factor` - 1 times, because nothing follows it; otherwise
    the film would become shorter and lose sync with its sound or its loop. Frame k * factor of the result is frame k,
    bit for bit. At a cut, the frame before it is repeated.

    `model` is None for OpenCV's optical flow, or a .safetensors file of RIFE. The result is deterministic. Raises
    RequestError for other frames, a single frame, or another factor, MissingExtra without OpenCV (or torch, for a
    model), and WeightsError for a file that is not RIFE.
    """
    check_frames(frames)
    check_factor(factor)
    count = len(frames)
    if count < 2:
        raise RequestError("frames", count, "must be two or more", "a still has no motion to show")
    out = np.repeat(frames, factor, axis=0)
    between = _flowing(frames) if model is None else _inferred(frames, Path(model))
    for place, made in enumerate(between):
        if made is not None:
            for step in range(1, factor):
                out[place * factor + step] = made(step / factor)
    return out


def check_factor(factor: int) -> None:
    """Raises RequestError unless `factor` is a whole number, 2 to 8."""
    if isinstance(factor, bool) or not isinstance(factor, int) or factor not in FACTORS:
        limit = f"must be whole, {FACTORS[0]} to {FACTORS[-1]}"
        raise RequestError("factor", factor, limit, "2 makes 8 frames a second 16")


def is_cut(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether image b (h, w, 3) uint8 begins another scene: most pixels differ, and so do most colours."""
    changed = (np.maximum(a, b) - np.minimum(a, b) > _CHANGED).any(2)
    if float(changed.mean()) < _CUT:
        return False
    return float(np.minimum(_colours(a), _colours(b)).sum()) < _CUT


def _colours(picture: np.ndarray) -> np.ndarray:
    """Return the colour histogram (512,), with eight levels each of red, green and blue."""
    bins = (picture >> 5).reshape(-1, 3) @ np.array([64, 8, 1])
    return np.bincount(bins, minlength=512) / len(bins)


def _inferred(frames: np.ndarray, model: Path) -> Iterator[Between | None]:
    try:
        from flickbook.media.finishing import rife
    except ImportError as error:
        raise MissingExtra("torch", "gen") from error
    network = rife.load(model)
    for a, b in zip(frames[:-1], frames[1:], strict=True):
        yield None if is_cut(a, b) else rife.between(network, a, b)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two neighbouring frames, (h, w, 3) uint8, and the motion between them."""

    a: np.ndarray
    b: np.ndarray
    there: Way
    back: Way

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> Pair | None:
        """Return the pair; None if there is a cut between the frames."""
        if is_cut(a, b):
            return None
        there, back = ways(a, b)
        return None if min(there.unlike, back.unlike) > _LOST else cls(a, b, there, back)


def _flowing(frames: np.ndarray) -> Iterator[Between | None]:
    """Yield the interpolator of each pair of neighbours, or None at a cut. At most three pairs are held at once."""
    before, now = None, Pair.of(frames[0], frames[1])
    for place in range(1, len(frames)):
        after = Pair.of(frames[place], frames[place + 1]) if place + 1 < len(frames) else None
        yield None if now is None else _moving(now, _bend(before, now), _bend(now, after))
        before, now = now, after


def _bend(before: Pair | None, after: Pair | None) -> np.ndarray | None:
    """Return the acceleration at the frame between two pairs: (h, w, 2), pixels per frame squared; None at an end."""
    if before is None or after is None:
        return None
    trust = (before.back.seen * after.there.seen)[..., None]
    return np.asarray((before.back.flow + after.there.flow) * trust)


def _moving(pair: Pair, first: np.ndarray | None, last: np.ndarray | None) -> Between:
    """Return the interpolator of a pair; `first` and `last` are the accelerations at its two frames."""
    there, back = pair.there, pair.back
    bends = (
        _mean(first, None if last is None else warped(last, there.flow)),
        _mean(None if first is None else warped(first, back.flow), last),
    )
    return lambda t: _picture(pair, bends, t)


def _mean(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | float:
    if a is None or b is None:
        return 0.0 if a is None and b is None else (b if a is None else a)  # type: ignore[return-value]
    return np.asarray((a + b) / 2)


def _picture(pair: Pair, bends: tuple[np.ndarray | float, np.ndarray | float], t: float) -> np.ndarray:
    """Return the image (h, w, 3) uint8 at time t, 0 to 1."""
    here = grid(*pair.a.shape[:2])
    weight, vector, way, seen = _arrived(pair.there, bends[0], t, here)
    weight_b, vector_b, way_b, seen_b = _arrived(pair.back, bends[1], 1 - t, here)
    # For each pixel of the new image: the vectors to both frames, and how reliably it is visible in each.
    parts = [weight + weight_b, vector + vector_b + way_b, vector + way + vector_b, weight + seen_b, seen + weight_b]
    planes = np.concatenate(parts).astype(np.float32)
    planes += sum(much * flow.around(planes, times) for times, much in _FILLS)
    mean = np.ascontiguousarray(np.moveaxis(planes[1:] / np.maximum(planes[0], 1e-12), 0, 2))
    before, after = sampled(pair.a, here + mean[..., :2]), sampled(pair.b, here + mean[..., 2:4])
    # A pixel that is not reliable in either frame is a blend of both.
    first, second = (1 - t) * mean[..., 4:5] + 1e-4, t * mean[..., 5:6] + 1e-4
    blend = (first * before + second * after) / (first + second)
    return np.asarray((blend + 0.5).astype(np.uint8))


def _arrived(way: Way, bend: np.ndarray | float, time: float, here: np.ndarray) -> list[np.ndarray]:
    """Splat a frame's pixels at `time` along their motion.

    Returns the sums of weights (1, h, w), and the weighted sums of the vectors back to the origin (2, h, w), of the
    flow (2, h, w), and of `seen` (1, h, w).
    """
    ends = here + time * way.flow - time * (1 - time) / 2 * bend
    ends = np.round(ends * _STEPS) / _STEPS
    relative = np.minimum(length(way.flow - main_motion(way.flow)), _FASTEST)
    # Moving pixels visible in both frames are in front of static ones; pixels visible in one frame only are behind.
    weight = way.seen * way.like * np.exp(_FRONT * relative) + _LEAST * np.exp(-_BEHIND * relative)
    sums = landed(ends, np.dstack([here - ends, way.flow, way.seen]), weight * (1 - time))
    return np.split(sums, (1, 3, 5))


def landed(ends: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Splat `values` (h, w, c): return (1 + c, h, w), the sum of weights (h, w) and the weighted sum of the values.

    Each pixel goes to `ends` (h, w, 2), x and y, and is shared among the four pixels around it; pixels that leave the
    image are dropped.
    """
    height, width, channels = values.shape
    low = np.floor(ends).astype(np.int64)
    x, y = low[..., 0].ravel(), low[..., 1].ravel()
    beyond = (ends - low).reshape(-1, 2)
    right, down = beyond[:, 0], beyond[:, 1]
    planes = [plane.ravel() for plane in np.moveaxis(values, 2, 0)]
    out = np.zeros((1 + channels, height * width))
    for dx, dy, part in (
        (0, 0, (1 - right) * (1 - down)),
        (1, 0, right * (1 - down)),
        (0, 1, (1 - right) * down),
        (1, 1, right * down),
    ):
        inside = (part > 0) & (x >= -dx) & (x < width - dx) & (y >= -dy) & (y < height - dy)
        used = np.flatnonzero(inside)
        index, share = ((y + dy) * width + x + dx)[used], (part * weight.ravel())[used]
        out[0] += np.bincount(index, share, height * width)
        for total, plane in zip(out[1:], planes, strict=True):
            total += np.bincount(index, share * plane[used], height * width)
    return out.reshape(1 + channels, height, width)
