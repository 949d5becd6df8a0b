"""A student beside its teacher: motion and diversity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from flickbook.learn.evaluation.few_steps import PROMPTS, SEEDS, diversity, motion, ratios
from flickbook.world.scenes import Scene, sample


def test_motion_is_the_difference_of_neighbouring_frames() -> None:
    film = np.zeros((3, 2, 2, 3), np.uint8)
    assert motion(film) == 0
    film[1] = 255  # there and back: differences of bytes must not wrap
    assert motion(film) == 255


def test_diversity_is_the_difference_of_films() -> None:
    black, gray = np.zeros((2, 2, 2, 3), np.uint8), np.full((2, 2, 2, 3), 90, np.uint8)
    assert diversity([black, black, black]) == 0
    assert diversity([black, gray, gray]) == pytest.approx(60)


def test_the_ratios_compare_films_of_the_same_prompts_and_seeds() -> None:
    seen: list[list[tuple[str, int]]] = []

    def drawing(strength: float) -> object:
        def draw(scenes: Sequence[Scene]) -> Iterator[np.ndarray]:
            seen.append([(scene.kind, scene.seed) for scene in scenes])
            for scene in scenes:
                noise = np.random.default_rng(scene.seed).integers(0, 200, (4, 8, 8, 3))
                yield (noise * strength).astype(np.uint8)

        return draw

    scenes = [sample(1000 * number) for number in range(20)]
    found = ratios(scenes, drawing(1.0), drawing(0.5))  # type: ignore[arg-type]
    assert seen[0] == seen[1] and len(set(seen[0])) == PROMPTS * SEEDS
    assert found["motion"] == pytest.approx(0.5, abs=0.02) and found["diversity"] == pytest.approx(0.5, abs=0.02)
