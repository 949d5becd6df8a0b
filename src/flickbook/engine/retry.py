"""Films that must be good enough: where a score is too low, another seed is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from flickbook.engine.films import Means, OnStep, films
from flickbook.media.clip import Clip
from flickbook.spec import Plan


def good_films(
    plans: Sequence[Plan],
    means: Means | None = None,
    thresholds: Mapping[str, float] | None = None,
    retries: int = 0,
    *,
    on_step: OnStep | None = None,
    previews: bool = False,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Clip]:
    """The films of `plans` in order; one with a score below its threshold is made again, at most `retries` times.

    The seeds that are tried are as many apart as there are plans, so that no two films meet. Where no seed is good
    enough the best is kept: the one that misses its thresholds by least. The run's notes tell of every try.
    """
    how = {"on_step": on_step, "previews": previews, "cancel": cancel}
    for clip in films(plans, means, **how):  # type: ignore[arg-type]
        tries = [clip]
        while _missed(tries[-1], thresholds or {}) and len(tries) <= retries:
            assert clip.recipe is not None and isinstance(clip.recipe.plan, Plan)
            seed = (clip.recipe.plan.seed + len(tries) * len(plans)) % 2**63
            tries += films([clip.recipe.plan.model_copy(update={"seed": seed})], means, **how)  # type: ignore[arg-type]
        yield _best(tries, thresholds or {})


def _missed(clip: Clip, thresholds: Mapping[str, float]) -> dict[str, float]:
    """The scores that are too low. A score that this film does not have misses nothing."""
    assert clip.run is not None
    found = clip.run.scores
    return {name: found[name] for name, least in thresholds.items() if name in found and found[name] < least}


def _best(tries: Sequence[Clip], thresholds: Mapping[str, float]) -> Clip:
    """The try that misses by least, with a note of each that missed."""
    if len(tries) == 1 and not _missed(tries[0], thresholds):
        return tries[0]

    def short(clip: Clip) -> float:
        return sum(thresholds[name] - value for name, value in _missed(clip, thresholds).items())

    best = min(tries, key=short)
    assert best.run is not None
    notes = []
    for each in tries:
        if missed := _missed(each, thresholds):
            assert each.recipe is not None and isinstance(each.recipe.plan, Plan)
            told = ", ".join(f"{name} {value:g} below {thresholds[name]:g}" for name, value in missed.items())
            notes.append(f"seed {each.recipe.plan.seed} has {told}" + (" and is the best" if each is best else ""))
    run = best.run.model_copy(update={"notes": [*best.run.notes, *notes]})
    return Clip(best.frames, best.fps, best.recipe, run)
