"""How much films of one prompt differ, and a few-step student beside its teacher in motion and diversity.

Motion is the mean absolute difference of neighbouring frames. Diversity is the mean absolute difference of films of one
prompt with different seeds. Both are given as shares of the teacher's: a student that learned the mean of its teacher's
films would move less and repeat itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from flickbook.world.scenes import Scene

#: Prompts, and seeds of each, from which diversity is measured.
PROMPTS, SEEDS = 8, 4
#: Scenes -> their films.
Draw = Callable[[Sequence[Scene]], Iterator[np.ndarray]]


def motion(film: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames of (n, h, w, 3) uint8, 0 to 255."""
    return float(np.abs(np.diff(film.astype(np.int16), axis=0)).mean())


def diversity(films: Sequence[np.ndarray]) -> float:
    """Mean absolute difference of all pairs of two or more `films` (n, h, w, 3) uint8 of one prompt, 0 to 255."""
    pairs = combinations([film.astype(np.int16) for film in films], 2)
    return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))


def ratios(scenes: Sequence[Scene], teacher: Draw, student: Draw) -> dict[str, Any]:
    """The student's motion and diversity as shares of the teacher's, over films of the first scenes with new seeds."""
    varied = [replace(scene, seed=scene.seed + number) for scene in scenes[:PROMPTS] for number in range(SEEDS)]
    found: dict[str, list[float]] = {"motion": [], "diversity": []}
    for draw in (teacher, student):
        films = list(draw(varied))
        found["motion"].append(float(np.mean([motion(film) for film in films])))
        groups = [films[first : first + SEEDS] for first in range(0, len(films), SEEDS)]
        found["diversity"].append(float(np.mean([diversity(group) for group in groups])))
    return {name: sides[1] / max(1e-9, sides[0]) for name, sides in found.items()}


def varied(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """The first scenes with `SEEDS` seeds each, for the diversity of a model of which `count` films are made."""
    first = scenes[: min(PROMPTS, max(1, count // 12))]
    return [replace(scene, seed=scene.seed + number) for scene in first for number in range(SEEDS)]


def spreads(films: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
    """The mean difference of films of one prompt, over several prompts: in pixels, 0 to 255, and in features.

    The films are (16, 128, 128, 3) uint8, two or more of each prompt.
    """
    from flickbook.learn.evaluation.distances import spread
    from flickbook.learn.evaluation.features import features

    return {
        "pixels": float(np.mean([diversity(group) for group in films])),
        "features": float(np.mean([spread(features(group)) for group in films])),
    }


def variety(scenes: Sequence[Scene], draw: Draw, count: int) -> dict[str, Any]:
    """The diversity over seeds of the films that `draw` makes, beside that of true films of the same prompts."""
    from flickbook.world.render import render

    chosen = varied(scenes, count)
    sides = (list(draw(chosen)), [render(scene) for scene in chosen])
    made, true = (spreads([side[first : first + SEEDS] for first in range(0, len(side), SEEDS)]) for side in sides)
    return {"prompts": len(chosen) // SEEDS, "seeds": SEEDS, "films": made, "true films": true}
