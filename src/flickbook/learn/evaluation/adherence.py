"""Prompt adherence: whose prompts, and how often films show what they say, with Wilson intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from flickbook.errors import RequestError
from flickbook.learn.dataset import EVALUATION_SEEDS
from flickbook.world.detect import Verdict, wilson
from flickbook.world.scenes import Scene, sample

#: Group -> (what the world draws, held out, share of the prompts).
GROUPS: dict[str, tuple[str, bool, float]] = {
    "core": ("core", False, 0.36),
    "core held out": ("core", True, 0.2),
    "two objects": ("pair", False, 0.06),
    "several": ("several", False, 0.04),
    "digits": ("digits", False, 0.06),
    "scenes": ("views", False, 0.1),
    "book": ("book", False, 0.12),
    "book held out": ("book", True, 0.06),
}
#: The group of films whose prompts the judge cannot read.
OTHER = "other prompts"
_SEEDS = 10_000
_SEED_LIMIT = 1000


@dataclass
class Tally:
    """Right and total of each attribute in one group."""

    right: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one film."""
        for word, held in {**verdict.counted, **verdict.apart, "all correct": verdict.all_correct}.items():
            self.right[word] += bool(held)
            self.total[word] += 1

    def rows(self) -> dict[str, dict[str, float]]:
        """attribute -> right, total, share and the ends of its 95 % Wilson interval."""
        rows = {}
        for word, total in self.total.items():
            low, high = wilson(self.right[word], total)
            rows[word] = {"right": self.right[word], "total": total, "share": self.right[word] / total}
            rows[word] |= {"low": low, "high": high}
        return rows


def shares(count: int) -> dict[str, int]:
    """`count` films in the shares of `GROUPS`: group -> films, without empty groups."""
    found: dict[str, int] = {}
    before, reached = 0, 0.0
    for name, (_, _, share) in GROUPS.items():
        reached += share
        # Rounded where each group ends, so that all together are `count`.
        end = int(count * reached + 0.5)
        found[name] = end - before
        before = end
    return {name: number for name, number in found.items() if number}


def prompts(count: int, seed: int = 0, coverage: float = 1.0) -> dict[str, list[Scene]]:
    """`count` scenes in the shares of `GROUPS`, from seeds that training never uses; another `seed` gives others.

    `coverage` is that of the training: seen pairs are those it showed. Raises RequestError for a seed beyond 0 to 1000.
    """
    if not 0 <= seed <= _SEED_LIMIT:
        raise RequestError("seed", seed, f"must be 0 to {_SEED_LIMIT}", "0 gives the prompts of the published table")
    first, places = EVALUATION_SEEDS + 10_000_000 * seed, list(GROUPS)
    return {
        name: [
            sample(first + _SEEDS * places.index(name) + i, *GROUPS[name][:2], coverage=coverage) for i in range(number)
        ]
        for name, number in shares(count).items()
    }


def wrong(verdict: Verdict) -> list[str]:
    """The attributes that decide and are wrong."""
    return [word for word, held in verdict.counted.items() if not held]


def only(verdict: Verdict, named: Collection[str]) -> Verdict:
    """The verdict on the attributes that a prompt names."""
    counted = {word: held for word, held in verdict.counted.items() if word in named}
    return Verdict(counted, {word: held for word, held in verdict.apart.items() if word in named})


def group_of(scene: Scene) -> str:
    """The group of a scene that a prompt asks for."""
    from flickbook.world.scenes import OBJECTS, held_out

    if scene.kind == "core" and held_out(scene.actors[0]):
        return "core held out"
    drawn = scene.kind if scene.kind in (*OBJECTS, "book") else "views"
    return next(name for name, (group, heldout, _) in GROUPS.items() if group == drawn and not heldout)


def abnormal(rows: dict[str, dict[str, float]]) -> float:
    """The share of films with any wrong word: 1 minus "all correct"."""
    return 1 - float(np.clip(rows["all correct"]["share"], 0, 1))
