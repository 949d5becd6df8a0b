"""Films beside true films: FVD-w with its floor, and the distance to the nearest training clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flickbook.learn.dataset import EVALUATION_SEEDS, training_scenes
from flickbook.learn.evaluation.adherence import GROUPS
from flickbook.learn.evaluation.collect import Collector
from flickbook.learn.evaluation.distances import frechet, mmd, nearest
from flickbook.learn.evaluation.features import FEATURES, features, weights_sha256
from flickbook.learn.evaluation.temporal import measure, summary
from flickbook.world.render import render
from flickbook.world.scenes import FPS, sample

#: Sets of true films that give the floor, and the fewest films that have a distance.
FLOORS, FEWEST = 3, 8
#: True films of the reference: four times as many as films, within these limits.
_REFERENCE = (256, 2048)
#: Training clips of each group among which the nearest is sought.
CLIPS = 128
#: True films whose motion and flicker are measured.
_TEMPORAL = 48
_SEEDS = EVALUATION_SEEDS + 6_000_000


def _true(counts: Mapping[str, int], first: int, coverage: float) -> dict[str, np.ndarray]:
    """group -> features of `counts[group]` true films, from seeds that start at `first`."""
    found = {}
    for place, (group, count) in enumerate(counts.items()):
        scenes = (sample(first + 10_000 * place + i, *GROUPS[group][:2], coverage=coverage) for i in range(count))
        found[group] = features(map(render, scenes))
    return found


def _together(vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(vectors.values()))


@dataclass(frozen=True)
class TrueFilms:
    """Features of true films of the same groups: a large reference, and `FLOORS` sets as large as the films'."""

    reference: dict[str, np.ndarray]
    floors: list[dict[str, np.ndarray]]

    @classmethod
    def of(cls, counts: Mapping[str, int], coverage: float = 1.0) -> TrueFilms:
        """True films for `counts[group]` films of each group."""
        total = sum(counts.values())
        times = min(_REFERENCE[1], max(_REFERENCE[0], 4 * total)) / total
        many = {group: max(2, round(times * count)) for group, count in counts.items()}
        floors = [_true(counts, _SEEDS + 100_000 * (k + 1), coverage) for k in range(FLOORS)]
        return cls(_true(many, _SEEDS, coverage), floors)


def distance(vectors: Mapping[str, np.ndarray], true: TrueFilms) -> dict[str, Any]:
    """FVD-w and MMD of films from true films, and of as many true films from the same true films (the floor)."""
    known, films = _together(true.reference), _together(vectors)
    floors = [_together(floor) for floor in true.floors]
    found: dict[str, Any] = {"films": len(films), "reference": len(known), "features": FEATURES}
    found |= {"weights_sha256": weights_sha256(), "fvd_w": frechet(films, known), "mmd": mmd(films, known)}
    found["floor"] = {
        "fvd_w": [frechet(floor, known) for floor in floors],
        "mmd": [mmd(floor, known) for floor in floors],
    }
    return found


def copying(vectors: Mapping[str, np.ndarray], true: TrueFilms, coverage: float = 1.0) -> dict[str, Any]:
    """How near films come to training clips, as a multiple of how near true films of other seeds come.

    The first `CLIPS` training clips of each group are rendered again. A model that copies has a ratio far below 1.
    `closer` is the share of films that are nearer than the nearest true film of their group, and `closer_expected` what
    it would be for true films.
    """
    clips: dict[str, np.ndarray] = {}
    groups, ratios, closer, expected = {}, [], 0, 0.0
    for group, films in vectors.items():
        drawn = GROUPS[group][0]
        if drawn not in clips:
            clips[drawn] = features(map(render, training_scenes({drawn: CLIPS}, coverage=coverage)))
        away = nearest(films, clips[drawn])
        usual = nearest(np.concatenate([floor[group] for floor in true.floors]), clips[drawn])
        typical = max(float(np.median(usual)), 1e-9)
        groups[group] = {"films": float(np.median(away)), "true films": typical}
        groups[group]["ratio"] = groups[group]["films"] / typical
        ratios += (away / typical).tolist()
        closer += int((away < usual.min()).sum())
        expected += len(films) / (len(usual) + 1)
    shares = {"closer": closer / len(ratios), "closer_expected": expected / len(ratios)}
    return {"clips": CLIPS, "ratio": float(np.median(ratios)), **shares, "groups": groups}


def compare(vectors: Mapping[str, Sequence[np.ndarray]], coverage: float = 1.0) -> dict[str, Any]:
    """`distance` and `copying` of the films of the world's groups; empty for fewer than `FEWEST` of them."""
    stacked = {group: np.stack(rows) for group, rows in vectors.items() if group in GROUPS}
    if sum(map(len, stacked.values())) < FEWEST:
        return {}
    true = TrueFilms.of({group: len(rows) for group, rows in stacked.items()}, coverage)
    return {"distance": distance(stacked, true), "nearest": copying(stacked, true, coverage)}


def complete(collector: Collector, coverage: float = 1.0) -> dict[str, Any]:
    """What a thorough evaluation adds: FVD-w, nearest clips, motion and flicker beside true films, and each film."""
    found: dict[str, Any] = {"coverage": coverage, **compare(collector.vectors, coverage)}
    found["temporal"] = {"films": summary(collector.temporal)}
    groups = [row["group"] for row in collector.rows if row["group"] in GROUPS]
    if groups:
        # As many true films as films, in the same shares, but no more than needed for a mean.
        spread = np.linspace(0, len(groups) - 1, min(len(groups), _TEMPORAL)).round().astype(int)
        true = [sample(_SEEDS + 700_000 + int(i), *GROUPS[groups[i]][:2], coverage=coverage) for i in spread]
        found["temporal"]["true films"] = summary([measure(render(scene), FPS) for scene in true])
    found["films"] = collector.rows
    return found
