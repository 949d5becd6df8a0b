"""Films that must be good enough."""

from __future__ import annotations

from flickbook.engine.films import RunOptions
from flickbook.engine.retry import good_films
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

SHORT = {"num_inference_steps": 2, "num_frames": 4, "seed": 7}


def plans(count: int) -> list[Plan]:
    request = Request(prompt="a red circle moving left on a blue background", **SHORT)  # type: ignore[arg-type]
    return [resolve(request.model_copy(update={"seed": 7 + number})) for number in range(count)]


def seeds(made: list[Plan], **options: object) -> tuple[list[int], list[list[str]]]:
    clips = list(good_films(made, RunOptions(), **options))  # type: ignore[arg-type]
    found = [clip.recipe.plan for clip in clips if clip.recipe is not None]
    assert all(isinstance(plan, Plan) for plan in found)
    notes = [[note for note in clip.run.notes if "seed" in note] for clip in clips if clip.run is not None]
    return [plan.seed for plan in found if isinstance(plan, Plan)], notes


def test_a_film_above_the_threshold_is_kept() -> None:
    assert seeds(plans(2), thresholds={"not_black": 0.0}, retries=2) == ([7, 8], [[], []])


def test_the_best_film_is_kept_if_none_reaches_the_threshold() -> None:
    found, notes = seeds(plans(1), thresholds={"sharp": 2.0}, retries=2)
    assert found[0] in (7, 8, 9)
    assert len(notes[0]) == 3 and sum("is the best" in note for note in notes[0]) == 1
    assert f"seed {found[0]} has sharp" in next(note for note in notes[0] if "best" in note)


def test_retries_of_two_films_use_different_seeds() -> None:
    _, notes = seeds(plans(2), thresholds={"sharp": 2.0}, retries=1)
    tried = [[int(note.split()[1]) for note in each] for each in notes]
    assert tried == [[7, 9], [8, 10]]


def test_a_threshold_on_a_missing_score_is_ignored_with_a_note() -> None:
    (clip,) = good_films(plans(1), RunOptions(), {"coherence": 0.99, "not_black": 0.0}, retries=1)
    assert clip.recipe is not None and isinstance(clip.recipe.plan, Plan) and clip.recipe.plan.seed == 7
    assert clip.run is not None and clip.run.notes[-1] == "this film has no score coherence; its threshold is ignored"
    assert not any("not_black" in note for note in clip.run.notes)
