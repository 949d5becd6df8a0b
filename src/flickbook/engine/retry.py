"""Makes films until they pass quality thresholds: if a score is too low, another seed is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

from flickbook.engine.films import FilmFilter, Keep, OnStep, RunOptions, films
from flickbook.media.clip import Clip
from flickbook.spec import Plan


def good_films(
    plans: Sequence[Plan],
    run_options: RunOptions | None = None,
    thresholds: Mapping[str, float] | None = None,
    retries: int = 0,
    *,
    on_step: OnStep | None = None,
    previews: bool = False,
    cancel: Callable[[], bool] | None = None,
    keep: Keep | None = None,
    film_filter: FilmFilter | None = None,
    apart: int | None = None,
) -> Iterator[Clip]:
    """Make the films of `plans` in order; one with a score below its threshold is made again, up to `retries` times.

    Each retry adds `apart` to the seed, by default the number of plans, so that no two films share a seed. If no seed
    passes, the film that misses its thresholds by the least is kept. The Run's notes list every attempt, and each
    threshold on a score that the film does not have. `keep` is called for each batch and each retry, as in `films`, and
    `film_filter` for each film.
    """
    thresholds = thresholds or {}
    how: dict[str, Any] = {"on_step": on_step, "previews": previews, "cancel": cancel, "keep": keep}
    # With thresholds a film may be discarded, so it is not encoded in advance.
    for clip in films(plans, run_options, ahead=not thresholds, film_filter=film_filter, **how):
        best, tries = clip, [_Try.of(clip, thresholds)]
        while tries[-1].missed and len(tries) <= retries:
            seed = (tries[0].plan.seed + len(tries) * (apart or len(plans))) % 2**63
            clip = next(films([tries[0].plan.model_copy(update={"seed": seed})], run_options, **how))
            found = _Try.of(clip, thresholds)
            if found.short < min(each.short for each in tries):
                best = clip
            tries.append(found)
        yield _noted(best, tries, thresholds)


class _Try(NamedTuple):
    """One seed of a film: the scores below their thresholds (score, threshold), and the sum of what they lack."""

    plan: Plan
    missed: Mapping[str, tuple[float, float]]
    short: float

    @classmethod
    def of(cls, clip: Clip, thresholds: Mapping[str, float]) -> Self:
        """The result for a Clip. A threshold on a score that the film does not have is ignored."""
        assert clip.recipe is not None and isinstance(clip.recipe.plan, Plan) and clip.run is not None
        found = clip.run.scores
        pairs = {name: (found[name], least) for name, least in thresholds.items() if name in found}
        missed = {name: (value, least) for name, (value, least) in pairs.items() if value < least}
        return cls(clip.recipe.plan, missed, sum(least - value for value, least in missed.values()))

    def line(self, best: bool) -> str:
        """What this seed missed, as a note for the user."""
        missed = ", ".join(f"{name} {value:g} below {least:g}" for name, (value, least) in self.missed.items())
        return f"seed {self.plan.seed} has {missed}" + (" and is the best" if best else "")


def _noted(best: Clip, tries: Sequence[_Try], thresholds: Mapping[str, float]) -> Clip:
    """The best attempt, with a note for each one that missed a threshold, and for each threshold without a score."""
    assert best.recipe is not None and best.run is not None
    notes = [each.line(each.plan == best.recipe.plan) for each in tries if each.missed]
    missing = [name for name in thresholds if name not in best.run.scores]
    notes += [f"this film has no score {name}; its threshold is ignored" for name in missing]
    return replace(best, run=best.run.model_copy(update={"notes": [*best.run.notes, *notes]})) if notes else best
