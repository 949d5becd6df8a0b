"""Pixels for a scene: objects are drawn four times too large as coverage masks, reduced, and laid over the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flickbook.world.scenes import BACKGROUNDS, COLOURS, FRAMES, OBJECTS, SIZE, SIZES, Actor, Scene
from flickbook.world.views.canvas import lay

_OVER = 4  # supersampling of the mask
#: Where across their motion the objects of a scene run, by their number.
_LANES = {1: ((0.0, 1.0),), 2: ((0.0, 0.12), (0.88, 1.0)), 3: ((0.0, 0.04), (0.48, 0.52), (0.96, 1.0))}


def _polygon(radii: list[tuple[float, float]], angle: float) -> list[tuple[float, float]]:
    """Points from (radius, turn) pairs, turn in fractions of a circle from the top, rotated by `angle` radians."""
    return [(r * math.sin(2 * math.pi * t + angle), -r * math.cos(2 * math.pi * t + angle)) for r, t in radii]


def _outline(shape: str, angle: float) -> list[tuple[float, float]]:
    """The outline of a shape of half-height 1."""
    if shape == "square":
        return _polygon([(1.18, (2 * k + 1) / 8) for k in range(4)], angle)
    if shape == "triangle":
        return _polygon([(1.2, k / 3) for k in range(3)], angle)
    if shape == "star":
        return _polygon([((1.25 if k % 2 == 0 else 0.5), k / 10) for k in range(10)], angle)
    arm = 0.36  # cross
    corners = [(arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1)]
    corners += [(-x, -y) for x, y in corners]
    cos, sin = math.cos(angle), math.sin(angle)
    return [(1.08 * (x * cos - y * sin), 1.08 * (x * sin + y * cos)) for x, y in corners]


def mask(shape: str, x: float, y: float, radius: float, angle: float) -> tuple[int, int, np.ndarray]:
    """Coverage of one object: left, top, and alpha (h, w) in 0..1, for a centre and a half-height in pixels."""
    reach = math.ceil(radius * 1.3) + 1
    left, top = math.floor(x) - reach, math.floor(y) - reach
    side = 2 * reach + 1
    canvas = Image.new("L", (side * _OVER, side * _OVER), 0)
    draw = ImageDraw.Draw(canvas)
    cx, cy, r = (x - left) * _OVER, (y - top) * _OVER, radius * _OVER
    if shape in ("circle", "ring"):
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        if shape == "ring":
            draw.ellipse((cx - 0.55 * r, cy - 0.55 * r, cx + 0.55 * r, cy + 0.55 * r), fill=0)
    elif shape.isdigit():
        font = ImageFont.load_default(size=2.7 * r)
        draw.text((cx, cy), shape, fill=255, font=font, anchor="mm", stroke_width=round(r / 12))
    else:
        draw.polygon([(cx + r * px, cy + r * py) for px, py in _outline(shape, angle)], fill=255)
    return left, top, np.asarray(canvas.reduce(_OVER), np.float32) / 255


def path(
    actor: Actor, rng: np.random.Generator, lane: tuple[float, float] = (0.0, 1.0)
) -> list[tuple[float, float, float, float]]:
    """Centre x, y, half-height (pixels) and angle (radians) in each frame.

    `lane` limits where across its motion an object may run, as fractions of the frame, so that two do not collide.
    """
    radius = float(SIZES.get(actor.size, SIZES["medium"]))
    time = np.linspace(0, 1, FRAMES)
    low, high = 1.3 * radius + 2, SIZE - 1.3 * radius - 2
    middle = SIZE / 2
    across = rng.uniform(low + lane[0] * (high - low), low + lane[1] * (high - low))
    across = 0.5 * across + 0.5 * (middle if lane == (0.0, 1.0) else across)
    x = np.full(FRAMES, across)
    y = np.full(FRAMES, middle + rng.uniform(-12, 12))
    size, angle = np.full(FRAMES, radius), np.zeros(FRAMES)
    if actor.motion in ("left", "right", "up", "down"):
        travel = rng.uniform(0.72, 1.0) * (high - low)
        start = rng.uniform(low, high - travel)
        line = start + travel * (time if actor.motion in ("right", "down") else 1 - time)
        x, y = (line, x) if actor.motion in ("left", "right") else (x, line)
    elif actor.motion == "bouncing":
        height = rng.uniform(0.7, 0.95) * (high - low)
        y = high - height * np.abs(np.sin(np.pi * (2 * time + rng.uniform(0, 0.15))))
    elif actor.motion == "circling":
        orbit = min(30.0, (high - low) / 2 - 1)
        turn = 2 * np.pi * (time + rng.uniform())
        x, y = middle + orbit * np.cos(turn), middle + orbit * np.sin(turn)
    elif actor.motion in ("growing", "shrinking"):
        scale = np.linspace(0.42, 1.75, FRAMES)
        size = SIZES["medium"] * (scale if actor.motion == "growing" else scale[::-1])
        x = np.full(FRAMES, middle + rng.uniform(-12, 12))
    elif actor.motion == "spinning":
        x = np.full(FRAMES, middle + rng.uniform(-20, 20))
        angle = 2 * np.pi * (time * 0.9 + rng.uniform())
    return list(zip(x.tolist(), y.tolist(), size.tolist(), angle.tolist(), strict=True))


def render(scene: Scene) -> np.ndarray:
    """The film of a scene: (16, 128, 128, 3) uint8, 8 frames a second."""
    if scene.kind == "book":
        from flickbook.world import book

        return book.draw(book.page(scene.traits, scene.seed))
    if scene.kind not in OBJECTS:
        from flickbook.world import views

        return views.draw(scene.kind, scene.traits, scene.seed)
    rng = np.random.default_rng([scene.seed, 0xF11])
    lanes = _LANES[len(scene.actors)]
    if len(lanes) == 2 and rng.random() < 0.5:
        lanes = lanes[::-1]
    return compose(scene, [path(actor, rng, lane) for actor, lane in zip(scene.actors, lanes, strict=True)])


def compose(scene: Scene, paths: Sequence[Sequence[tuple[float, float, float, float]]]) -> np.ndarray:
    """The film of a scene of objects, each with its centre x, y, half-height and angle in each frame."""
    film = np.empty((FRAMES, SIZE, SIZE, 3), np.float32)
    film[:] = BACKGROUNDS[scene.background]
    for actor, track in zip(scene.actors, paths, strict=True):
        for frame, (x, y, radius, angle) in zip(film, track, strict=True):
            left, top, alpha = mask(actor.shape, x, y, radius, angle)
            lay(frame, alpha, COLOURS[actor.colour], left, top)
    return (film + 0.5).astype(np.uint8)
