"""Soft brushes for the views: gradients, discs, glows, streaks, polygons and ridges on float pictures.

Every brush works in place on a picture (..., height, width, 3) float32 in 0..255 and clips at its edges.
Positions and sizes are in pixels of a 128-pixel frame, x to the right and y down. Edges are soft by about a pixel.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

FRAMES, SIZE = 16, 128
Colour = tuple[float, float, float]
Points = list[tuple[float, float]]
_OVER = 4  # supersampling of polygons

#: Pixel centres: a row of x and a column of y.
X = (np.arange(SIZE, dtype=np.float32) + 0.5)[None, :]
Y = (np.arange(SIZE, dtype=np.float32) + 0.5)[:, None]
#: Time of each frame from 0 to 1.
TIME = np.linspace(0, 1, FRAMES, dtype=np.float32)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` (0..1) of the way from `first` to `second`."""
    a, b, c = (p + (q - p) * share for p, q in zip(first, second, strict=True))
    return (a, b, c)


def gradient(*stops: tuple[float, Colour]) -> np.ndarray:
    """A picture (128, 128, 3) that blends downwards through (y, colour) stops."""
    places = [stop[0] for stop in stops]
    column = np.stack([np.interp(Y[:, 0], places, [stop[1][k] for stop in stops]) for k in range(3)], -1)
    return np.repeat(column.astype(np.float32)[:, None], SIZE, axis=1)


def film(still: np.ndarray) -> np.ndarray:
    """Sixteen copies (16, 128, 128, 3) of one picture (128, 128, 3)."""
    return np.repeat(still[None], FRAMES, axis=0)


def lay(picture: np.ndarray, alpha: np.ndarray, colour: Colour | np.ndarray, left: int = 0, top: int = 0) -> None:
    """Cover `picture` with `colour` by `alpha` (..., h, w) in 0..1, its corner at (left, top)."""
    height, width = picture.shape[-3:-1]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + alpha.shape[-1], width), min(top + alpha.shape[-2], height)
    if x0 >= x1 or y0 >= y1:
        return
    paint = np.asarray(colour, np.float32)
    if paint.ndim > 1:
        paint = paint[..., y0 - top : y1 - top, x0 - left : x1 - left, :]
    target = picture[..., y0:y1, x0:x1, :]
    target += alpha[..., y0 - top : y1 - top, x0 - left : x1 - left, None] * (paint - target)


def patch(x: float, y: float, reach: float) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Left, top and the grids of x and y distances from a centre, for a square of half-side `reach`."""
    side = math.ceil(reach)
    left, top = math.floor(x) - side, math.floor(y) - side
    steps = np.arange(2 * side + 1, dtype=np.float32) + 0.5
    return left, top, (steps + (left - x))[None, :], (steps + (top - y))[:, None]


def disc(
    picture: np.ndarray, x: float, y: float, radius: float, colour: Colour, soft: float = 1.0, strength: float = 1.0
) -> None:
    """A filled circle whose edge fades over `soft` pixels either side."""
    left, top, dx, dy = patch(x, y, radius + soft + 1)
    alpha = np.clip((radius - np.sqrt(dx * dx + dy * dy)) / (2 * soft) + 0.5, 0, 1) * strength
    lay(picture, alpha, colour, left, top)


def blob(
    picture: np.ndarray, x: float, y: float, wide: float, high: float, colour: Colour, strength: float = 1.0
) -> None:
    """A Gaussian cloud of colour with standard radii `wide` and `high`."""
    left, top, dx, dy = patch(x, y, 2.2 * max(wide, high))
    fall = np.clip(np.exp(-((dx / wide) ** 2) - (dy / high) ** 2) - 0.01, 0, 1)
    lay(picture, fall * strength, colour, left, top)


def streak(
    picture: np.ndarray, tail: tuple[float, float], head: tuple[float, float], width: float, colour: Colour
) -> None:
    """A line that fades in from `tail` to `head`, `width` its half-width at the head."""
    (ax, ay), (bx, by) = tail, head
    middle_x, middle_y = (ax + bx) / 2, (ay + by) / 2
    left, top, dx, dy = patch(middle_x, middle_y, max(abs(bx - ax), abs(by - ay)) / 2 + width + 3)
    length = math.hypot(bx - ax, by - ay)
    ux, uy = (bx - ax) / length, (by - ay) / length
    along = np.clip((dx * ux + dy * uy) / length + 0.5, 0, 1)
    over = along - 0.5
    away = np.hypot(dx - over * length * ux, dy - over * length * uy)
    alpha = np.exp(-((away / (width * (0.45 + 0.55 * along))) ** 2)) * along
    lay(picture, alpha, colour, left, top)


def polygon(picture: np.ndarray, points: Points, colour: Colour, strength: float = 1.0) -> None:
    """A filled outline with anti-aliased edges."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, top = math.floor(min(xs)) - 1, math.floor(min(ys)) - 1
    wide, high = math.ceil(max(xs)) + 1 - left, math.ceil(max(ys)) + 1 - top
    canvas = Image.new("L", (wide * _OVER, high * _OVER), 0)
    outline = [((x - left) * _OVER, (y - top) * _OVER) for x, y in points]
    ImageDraw.Draw(canvas).polygon(outline, fill=255)
    alpha = np.asarray(canvas.reduce(_OVER), np.float32) * (strength / 255)
    lay(picture, alpha, colour, left, top)


def ridge(line: np.ndarray, soft: float = 1.0) -> np.ndarray:
    """Coverage (..., 128, 128) of everything below a `line` (..., 128) of heights y."""
    return np.asarray(np.clip((Y - line[..., None, :]) / (2 * soft) + 0.5, 0, 1), np.float32)


def scatter(count: int, width: float, length: float, slant: float) -> np.ndarray:
    """Rain or snow: coverage (128, 128) of `count` x `count` soft streaks on a staggered lattice that wraps around.

    `length` is the standard half-length in pixels and `slant` the sideways shift for each pixel down.
    """
    step = SIZE / count
    alpha: np.ndarray = np.zeros((SIZE, SIZE), np.float32)
    for row in range(count):
        for column in range(count):
            x = (column + 0.5 * (row % 2) + 0.22 * math.sin(5 * row + 3 * column)) * step
            y = (row + 0.3 * math.sin(2 * column + 7 * row)) * step
            dy = (Y - y + SIZE / 2) % SIZE - SIZE / 2
            dx = (X - x - slant * dy + SIZE / 2) % SIZE - SIZE / 2
            alpha = np.maximum(alpha, np.exp(-((dx / width) ** 2) - (dy / length) ** 2))
    return alpha


def finish(picture: np.ndarray) -> np.ndarray:
    """The picture as uint8, rounded."""
    return np.asarray(np.clip(picture, 0, 255) + 0.5, np.uint8)
