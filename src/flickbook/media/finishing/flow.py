"""Optical flow between two images, and warping along it, with OpenCV.

Dense inverse search (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search", ECCV) runs on the projection
of the colours with the largest variance, so that a red disc on a blue background of equal brightness is detected.
Regions that it cannot explain, because an object moved further than its own size, are matched over the whole image, and
the search runs again from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import numpy as np

from flickbook.errors import MissingExtra

_SIDE: Final = 192  # pixels of the shorter side that the search needs; smaller images are enlarged
_LEAST: Final = 32  # smallest side in pixels for its pyramid
_CONTRAST: Final = 48.0  # levels: lower contrast is not stretched further, or grain would become structure
_UNLIKE: Final = 36.0  # levels of difference above which a flow does not explain a pixel
_FEW: Final = 12  # pixels of the reduced image that may stay unexplained
_SMALL: Final = 128  # shorter side of the reduced image on which objects are matched
_REACH: Final = 0.6  # largest displacement in matching, as a share of its shorter side
_THINGS: Final = 3  # objects matched individually, in addition to all of them together
_WINDOW: Final = 15  # pixels around each object that must agree with a displacement
_FAR: Final = 0.3  # penalty of a displacement in levels per pixel
_GAIN: Final = 2.0  # levels by which another flow must be better
_CAP: Final = 60.0  # levels: limits the cost of occluded pixels
_ROUND_TRIP: Final = 1.0  # forward-backward error tolerance in pixels
_DOUBT: Final = 1e-3  # weight of an untrusted pixel in smoothing
_SURROUNDINGS: Final = ((2, 1.0), (16, 1e-3))  # radius in pixels, and weight
_PATIENCE: Final = 20.0  # levels of difference that reduce the trust to a third


def _cv2() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "finish") from error
    return cv2


@contextmanager
def one_thread() -> Iterator[None]:
    """Run OpenCV on one thread, because the flow depends on how it divides the image among threads."""
    cv2 = _cv2()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@lru_cache(maxsize=4)
def grid(height: int, width: int) -> np.ndarray:
    """Return x and y of each pixel: (h, w, 2) float32, read-only."""
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    places.setflags(write=False)
    return places


def sampled(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sample `field` (h, w) or (h, w, c) at `places` (h, w, 2), x and y, with the edge replicated."""
    cv2 = _cv2()
    return np.asarray(cv2.remap(field, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def warped(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Warp `field` back along `flow` (h, w, 2)."""
    return sampled(field, grid(*flow.shape[:2]) + flow)


def around(planes: np.ndarray, times: int) -> np.ndarray:
    """Blur `planes` (c, h, w) over about `times` pixels: reduce, blur and enlarge."""
    cv2 = _cv2()
    height, width = planes.shape[1:]
    size = max(1, width // times), max(1, height // times)
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    return np.stack([cv2.resize(cv2.GaussianBlur(plane, (0, 0), 1.0), (width, height)) for plane in small])


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the largest difference over the channels of two images at each pixel: (h, w) float32, in levels."""
    apart = _cv2().absdiff(a, b).astype(np.float32)
    # Channel by channel: a reduction over an axis of three is many times slower.
    return np.asarray(np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2]))


def length(flow: np.ndarray) -> np.ndarray:
    """Return the lengths (h, w) of the vectors of `flow` (h, w, 2)."""
    return np.asarray(np.hypot(flow[..., 0], flow[..., 1]))


def main_motion(flow: np.ndarray) -> np.ndarray:
    """Return the dominant motion: the median (2,) of every fourth pixel of every fourth row of `flow` (h, w, 2)."""
    return np.asarray(np.median(flow[::4, ::4].reshape(-1, 2), axis=0))


@dataclass(frozen=True, eq=False)
class Way:
    """The motion from one image to another.

    `flow` is (h, w, 2) float32, x and y in pixels on the first image's grid. Two maps (h, w), 0 to 1, say how far each
    pixel can be trusted: `seen` is 1 if the backward flow returns to the pixel, so it is visible in both images; `like`
    is 1 if it has the same colour in both.
    """

    flow: np.ndarray
    seen: np.ndarray
    like: np.ndarray
    unlike: float  #: the share of the picture that the flow does not explain


def ways(a: np.ndarray, b: np.ndarray) -> tuple[Way, Way]:
    """Return the motion from image a to b and from b to a, each (h, w, 3) uint8. Raises MissingExtra without OpenCV."""
    with one_thread():
        tones = _tones(a, b)
        flows = _found(a, b, *tones), _found(b, a, *tones[::-1])
        flows = _smoothed(_way(a, b, *flows)), _smoothed(_way(b, a, *flows[::-1]))
        return _way(a, b, *flows), _way(b, a, *flows[::-1])


def plain_flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the flow (h, w, 2) in pixels from image a to b, each (h, w, 3) uint8: dense inverse search alone, as
    measurements use it. Raises MissingExtra without OpenCV."""
    with one_thread():
        return _searched(*_tones(a, b))


def _smoothed(way: Way) -> np.ndarray:
    """Return the flow (h, w, 2), with untrusted pixels replaced by their surroundings, weighted by trust."""
    trust = (way.seen * way.like).astype(np.float32)
    weight = trust + _DOUBT
    planes = np.stack([weight, weight * way.flow[..., 0], weight * way.flow[..., 1]])
    spread = np.sum([much * around(planes, times) for times, much in _SURROUNDINGS], axis=0)
    mean = np.moveaxis(spread[1:] / spread[0], 0, 2)
    return np.asarray(mean + trust[..., None] * (way.flow - mean))


def _way(a: np.ndarray, b: np.ndarray, flow: np.ndarray, back: np.ndarray) -> Way:
    cv2 = _cv2()
    height, width = flow.shape[:2]
    ends = grid(height, width) + flow
    missed = length(flow + sampled(back, ends)) / (1 + 0.05 * length(flow))
    x, y = ends[..., 0], ends[..., 1]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    apart = cv2.boxFilter(difference(a, sampled(b, ends)), -1, (3, 3))
    seen = np.exp(-((missed / _ROUND_TRIP) ** 2)) * inside
    return Way(flow, seen, np.exp(-apart / _PATIENCE), float((apart > _UNLIKE).mean()))


def _tones(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert both images to grey (h, w) uint8 along the axis on which their colours vary most."""
    colours = np.concatenate([a.reshape(-1, 3), b.reshape(-1, 3)]).astype(np.float32)
    colours -= colours.mean(0)
    axis = np.linalg.eigh(colours.T @ colours)[1][:, -1]
    axis *= np.sign(axis[np.abs(axis).argmax()])  # the sign of the axis is arbitrary; fix it for reproducibility
    tone = colours @ axis
    low, high = float(tone.min()), float(tone.max())
    grey = ((tone - low) * (255 / max(high - low, _CONTRAST))).round().astype(np.uint8)
    first, second = np.split(grey, 2)
    return first.reshape(a.shape[:2]), second.reshape(a.shape[:2])


def _found(a: np.ndarray, b: np.ndarray, tone_a: np.ndarray, tone_b: np.ndarray) -> np.ndarray:
    """Return the flow from a to b: searched, then searched again from the displacements of unexplained objects."""
    flow = _searched(tone_a, tone_b)
    lost = _displaced(a, b, flow)
    if lost is None:
        return flow
    flows = [flow, _searched(tone_a, tone_b, lost), lost]
    first, second = a.astype(np.float32), b.astype(np.float32)
    # Prefer the refined displacement: the other candidates must be better by _GAIN.
    costs = np.stack([_cost(first, second, each, 5, 0.05) for each in flows])
    costs[[0, 2]] += _GAIN
    return np.asarray(np.take_along_axis(np.stack(flows), costs.argmin(0)[None, ..., None], 0)[0])


def _searched(tone_a: np.ndarray, tone_b: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Dense inverse search from `start`, or from no motion, on images that are enlarged if they are small."""
    cv2 = _cv2()
    height, width = tone_a.shape
    times = min(4, max(1, round(_SIDE / min(height, width))))
    size = max(_LEAST, width * times), max(_LEAST, height * times)
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    enlarged = [cv2.resize(each, size, interpolation=cv2.INTER_CUBIC) for each in (tone_a, tone_b)]
    begin = None if start is None else np.ascontiguousarray(cv2.resize(start, size) * scale)
    flow = search.calc(*enlarged, begin)
    if size != (width, height):
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(flow / scale)


def _cost(a: np.ndarray, b: np.ndarray, flow: np.ndarray, window: int, far: float) -> np.ndarray:
    """Return the matching cost of a flow around each pixel, in levels, plus `far` per pixel of its length."""
    cv2 = _cv2()
    apart = np.minimum(difference(a, warped(b, flow)), _CAP)
    mean = cv2.boxFilter(apart, -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean + far * length(flow))


def _displaced(a: np.ndarray, b: np.ndarray, flow: np.ndarray) -> np.ndarray | None:
    """Return `flow` with the displacements of unexplained objects added; None if everything is explained."""
    cv2 = _cv2()
    height, width = a.shape[:2]
    share = min(1.0, _SMALL / min(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA).astype(np.float32) for each in (a, b, flow)]
    first, second, found = small[0], small[1], small[2] * scale
    lost = (difference(first, warped(second, found)) > _UNLIKE).astype(np.uint8)
    lost = cv2.morphologyEx(lost, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    if int(lost.sum()) < _FEW:
        return None
    lost = cv2.dilate(lost, np.ones((5, 5), np.uint8))
    best = _cost(first, second, found, _WINDOW, _FAR)
    for part in _parts(lost):
        step = np.broadcast_to(_displacement(first, second, part), found.shape)
        cost = _cost(first, second, step, _WINDOW, _FAR)
        better = cost < best - _GAIN
        found = np.where(better[..., None], step, found)
        best = np.minimum(best, cost)
    return np.asarray(cv2.resize(found, (width, height)) / scale)


def _parts(lost: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the whole unexplained region (h, w), then its largest connected components if there are several."""
    cv2 = _cv2()
    yield lost > 0
    count, labels, sizes, _ = cv2.connectedComponentsWithStats(lost)
    if count > 2:
        order = np.argsort(-sizes[1:, cv2.CC_STAT_AREA], kind="stable")[:_THINGS]
        yield from (labels == 1 + each for each in order)


def _displacement(a: np.ndarray, b: np.ndarray, part: np.ndarray) -> Any:
    """Return the displacement (2,), x and y, at which `part` (h, w) of a matches b best; on a tie, the shorter."""
    cv2 = _cv2()
    height, width = part.shape
    reach = max(1, int(min(height, width) * _REACH))
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    wide = cv2.copyMakeBorder(b, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    wide = wide[top : bottom + 2 * reach, left : right + 2 * reach]
    weight = np.repeat(part[top:bottom, left:right, None], 3, 2).astype(np.float32)
    unlike = cv2.matchTemplate(wide, a[top:bottom, left:right], cv2.TM_SQDIFF, mask=weight) / part.sum()
    steps = grid(2 * reach + 1, 2 * reach + 1) - np.float32(reach)
    # The sums of squares come from a Fourier transform and may be slightly negative.
    costs = np.sqrt(np.maximum(unlike, 0)) + _FAR / 2 * length(steps)
    return steps.reshape(-1, 2)[int(costs.argmin())]
