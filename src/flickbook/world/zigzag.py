"""A motion that no training film shows: zigzagging. It is the new word of the proof of `flickbook tune`.

An object crosses the frame sideways at constant speed, and goes up and down in straight lines, about two times.
`python -m bench.zigzag` makes the clips in `examples/clips` and measures the result.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flickbook.world.blobs import of_film
from flickbook.world.detect import tracks
from flickbook.world.motion import EXPLAINED, TRAVEL
from flickbook.world.render import compose
from flickbook.world.scenes import BACKGROUNDS, COLOURS, FRAMES, SHAPES, SIZE, SIZES, Actor, Scene, possible

#: Training uses the seeds below this number, evaluation those from it on.
HELD_OUT_SEEDS: Final = 10_000
_CAPTIONS: Final = (
    "a {size} {colour} {shape} zigzagging on a {background} background",
    "a {colour} {shape} zigzagging on a {background} background",
    "a {size} {colour} {shape} zigzagging",
    "a {colour} {shape} is zigzagging over a {background} background",
    "on a {background} background, a {colour} {shape} zigzagging",
)


def sample(seed: int) -> Scene:
    """A scene of one zigzagging object."""
    rng = np.random.default_rng([seed, 0x216])
    while True:
        words = [str(rng.choice(list(each))) for each in (SHAPES, COLOURS, SIZES, BACKGROUNDS)]
        actor = Actor(words[0], words[1], "zigzagging", words[2])
        if possible(actor, words[3]):
            return Scene("core", seed, words[3], (actor,))


def caption(scene: Scene, number: int = 0) -> str:
    """One of the captions of a scene."""
    actor = scene.actors[0]
    return _CAPTIONS[number % len(_CAPTIONS)].format(**vars(actor), background=scene.background)


def render(scene: Scene) -> np.ndarray:
    """The film of a zigzagging object: (16, 128, 128, 3) uint8, 8 frames a second."""
    rng = np.random.default_rng([scene.seed, 0x217])
    radius = float(SIZES[scene.actors[0].size])
    low, high = 1.2 * radius + 2, SIZE - 1.2 * radius - 2
    time = np.linspace(0, 1, FRAMES)
    x = low + (high - low) * time
    x = x if rng.random() < 0.5 else x[::-1]
    height = rng.uniform(0.6, 0.8) * (high - low)
    turn = 2 * time + rng.uniform()
    y = SIZE / 2 + height * (np.abs(2 * (turn % 1) - 1) - 0.5)
    return compose(scene, [[(float(a), float(b), radius, 0.0) for a, b in zip(x, y, strict=True)]])


def read(frames: np.ndarray) -> bool:
    """Whether the largest object of a film (n, 128, 128, 3) zigzags: its x is a line, its y a wave of about two turns.

    A zigzag of a film of the world is read as one; each of the world's own motions is not.
    """
    found = tracks(of_film(frames)[1], len(frames))
    if not found:
        return False
    time = np.array([blob.frame for blob in found[0]]) / max(len(frames) - 1, 1)
    x, y = (np.array([getattr(blob, axis) for blob in found[0]]) for axis in ("x", "y"))
    slope, start = np.polyfit(time, x, 1)
    straight = 1 - float(((x - slope * time - start) ** 2).sum()) / max(float(((x - x.mean()) ** 2).sum()), 1e-9)
    return bool(abs(slope) >= TRAVEL and straight >= EXPLAINED and _wave(time, y) >= EXPLAINED)


def _wave(time: np.ndarray, y: np.ndarray) -> float:
    """The share of the variance of y that the best triangle wave of about two turns explains; 0 for a flat one."""
    y = y - y.mean()
    total, best = float(y @ y), 0.0
    for turns in (1.5, 1.75, 2.0, 2.25, 2.5):
        for phase in np.arange(0, 1, 0.05):
            wave = np.abs(2 * ((turns * time + phase) % 1) - 1)
            wave = wave - wave.mean()
            height = float(wave @ y) / float(wave @ wave)
            if abs(height) >= TRAVEL:
                best = max(best, height**2 * float(wave @ wave) / total)
    return best
