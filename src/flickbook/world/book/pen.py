"""A pen for flat drawings: discs, ovals, outlines, curves and limbs, each layer with a dark rim around its silhouette.

Positions and sizes are in units, 64 of them a side of the frame, x to the right and y down, before the pen's own
transform. The pen draws OVER samples a unit, and `shrink` averages them to a frame of PIXELS pixels a side: edges are
smooth by the mean of 16 samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

FRAMES, PIXELS = 16, 128
#: Units a side of the frame, and samples a unit.
SIZE, OVER = 64, 8
Colour = tuple[int, int, int]
Point = tuple[float, float]
Paint = Callable[[Colour], Colour]
#: Outline or ends in drawing pixels, width of a limb or None for an area, colour, whether it has a rim.
_Mark = tuple[list[Point], float | None, Colour, bool]
_RIM = 0.6  # units


def sheet() -> Image.Image:
    """An empty picture at the drawing size."""
    return Image.new("RGB", (SIZE * OVER, SIZE * OVER))


def shrink(picture: Image.Image) -> np.ndarray:
    """A drawn picture as a frame (PIXELS, PIXELS, 3) uint8."""
    return np.asarray(picture.reduce(SIZE * OVER // PIXELS))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` (0..1) of the way from `first` to `second`."""
    a, b, c = (round(p + (q - p) * share) for p, q in zip(first, second, strict=True))
    return (a, b, c)


@lru_cache(maxsize=4096)
def _smooth(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """A closed Catmull-Rom curve through `points`, five steps for each."""
    out = []
    for k in range(len(points)):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (points[(k + j - 1) % len(points)] for j in range(4))
        for step in range(5):
            t = step / 5
            w = (-t + 2 * t * t - t**3, 2 - 5 * t * t + 3 * t**3, t + 4 * t * t - 3 * t**3, t**3 - t * t)
            x = w[0] * ax + w[1] * bx + w[2] * cx + w[3] * dx
            y = w[0] * ay + w[1] * by + w[2] * cy + w[3] * dy
            out.append((x / 2, y / 2))
    return tuple(out)


_ROUND = tuple((math.cos(k * math.pi / 12), math.sin(k * math.pi / 12)) for k in range(24))


class Pen:
    """Collects marks in layers; `stamp` draws them. `paint` is applied to each colour, `ink` is the colour of rims."""

    def __init__(self, paint: Paint, ink: Colour | None = None) -> None:
        self._layers: list[list[_Mark]] = [[]]
        self._paint = paint
        self._ink = ink
        self._matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        self._scale = 1.0

    def at(
        self, x: float, y: float, angle: float = 0.0, size: float = 1.0, wide: float = 1.0, high: float = 1.0
    ) -> Pen:
        """A pen on the same sheet whose origin is (x, y), turned clockwise by `angle` radians.

        It is scaled by `size`, and by `wide` and `high` along its own axes; a negative `wide` mirrors it.
        """
        child = Pen.__new__(Pen)
        child._layers, child._paint, child._ink = self._layers, self._paint, self._ink
        a, b, c, d, e, f = self._matrix
        p, q = size * wide * math.cos(angle), -size * high * math.sin(angle)
        r, s = size * wide * math.sin(angle), size * high * math.cos(angle)
        child._matrix = (
            a * p + b * r,
            a * q + b * s,
            a * x + b * y + c,
            d * p + e * r,
            d * q + e * s,
            d * x + e * y + f,
        )
        child._scale = math.sqrt(abs(child._matrix[0] * child._matrix[4] - child._matrix[1] * child._matrix[3]))
        return child

    def layer(self) -> None:
        """Begin a new layer: the next marks have a rim also where they lie on earlier ones."""
        self._layers.append([])

    def _put(self, points: Sequence[Point]) -> list[Point]:
        a, b, c, d, e, f = (OVER * v for v in self._matrix)
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def outline(self, points: Sequence[Point], colour: Colour, rim: bool = True) -> None:
        """A filled area with straight sides."""
        self._layers[-1].append((self._put(points), None, self._paint(colour), rim))

    def curve(self, points: Sequence[Point], colour: Colour, rim: bool = True) -> None:
        """A filled area whose border is a smooth closed curve through `points`."""
        self.outline(_smooth(tuple(points)), colour, rim)

    def oval(
        self, x: float, y: float, wide: float, high: float, colour: Colour, rim: bool = True, angle: float = 0.0
    ) -> None:
        """A filled ellipse with half-axes `wide` and `high`."""
        cos, sin = math.cos(angle), math.sin(angle)
        points = [(x + wide * u * cos - high * v * sin, y + wide * u * sin + high * v * cos) for u, v in _ROUND]
        self.outline(points, colour, rim)

    def disc(self, x: float, y: float, radius: float, colour: Colour, rim: bool = True) -> None:
        """A filled circle."""
        self.oval(x, y, radius, radius, colour, rim)

    def limb(self, points: Sequence[Point], width: float, colour: Colour, rim: bool = True) -> None:
        """A line of `width` through `points` with round joints and ends."""
        self._layers[-1].append((self._put(points), width * self._scale * OVER, self._paint(colour), rim))

    def stamp(self, picture: Image.Image) -> None:
        """Draw everything collected so far on a picture at the drawing size, layer by layer, and forget it."""
        brush = ImageDraw.Draw(picture)
        for marks in self._layers:
            if self._ink is not None:
                for points, width, _, rim in marks:
                    if rim:
                        _rim(brush, points, width, self._ink)
            for points, width, colour, _ in marks:
                if width is None:
                    brush.polygon(points, fill=colour)
                else:
                    _stroke(brush, points, width, colour)
        self._layers[:] = [[]]


def _stroke(brush: ImageDraw.ImageDraw, points: list[Point], width: float, colour: Colour) -> None:
    brush.line(points, fill=colour, width=max(1, round(width)))
    half = width / 2
    if half > 0.8:
        for x, y in points:
            brush.ellipse((x - half, y - half, x + half, y + half), fill=colour)


def _rim(brush: ImageDraw.ImageDraw, points: list[Point], width: float | None, ink: Colour) -> None:
    grow = 2 * _RIM * OVER
    if width is not None:
        _stroke(brush, points, width + grow, ink)
        return
    brush.line([*points, points[0]], fill=ink, width=round(grow), joint="curve")
