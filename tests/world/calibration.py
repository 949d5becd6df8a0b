"""Calibration of the judge: how often it is right on true films."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from flickbook.world import detect, render, scenes

Transform = Callable[[np.ndarray], np.ndarray]


def calibrate(
    n: int,
    *,
    group: str = "core",
    heldout: bool = False,
    transform: Transform | None = None,
    first_seed: int = 1_000_000,
) -> dict[str, tuple[int, int]]:
    """Judge n true films of a group of `scenes.sample`: attribute -> (right, total), with "all_correct".

    `transform` maps frames to frames before they are judged, for instance through the autoencoder and back.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + n):
        scene = scenes.sample(seed, group, heldout)
        frames = render.render(scene)
        verdict = detect.judge(scene, frames if transform is None else transform(frames))
        for word, held in {**verdict.counted, **verdict.apart, "all_correct": verdict.all_correct}.items():
            right[word] += held
            total[word] += 1
    return {word: (right[word], total[word]) for word in total}
