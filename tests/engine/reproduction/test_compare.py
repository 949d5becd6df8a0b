"""What two recipes do not share."""

from __future__ import annotations

from tests.test_spec import PLAN, RECIPE, TREATMENT

from flickbook.engine.reproduction.compare import differences
from flickbook.spec import Lora


def test_equal_recipes_have_no_differences() -> None:
    assert differences(RECIPE, RECIPE) == {}


def test_each_field_that_differs_is_named_by_its_path() -> None:
    ink = Lora(name="ink", sha256="c" * 64)
    other = RECIPE.model_copy(
        update={
            "plan": PLAN.model_copy(update={"seed": 8, "loras": (ink,)}),
            "weights": {"unet/model.safetensors": "1" * 64, "more": "2" * 64},
        }
    )
    found = differences(RECIPE, other)
    assert found == {
        "plan.seed": (7, 8),
        "plan.loras.0.name": (None, "ink"),
        "plan.loras.0.sha256": (None, "c" * 64),
        "plan.loras.0.weight": (None, 1.0),
        "weights.unet/model.safetensors": ("0" * 64, "1" * 64),
        "weights.more": (None, "2" * 64),
    }


def test_a_film_and_its_polished_version_differ_in_task_and_origin() -> None:
    treated = RECIPE.model_copy(update={"plan": TREATMENT})
    found = differences(RECIPE, treated)
    assert found["plan.task"] == ("film", "polish")
    assert found["plan.origin.plan.prompt"] == (None, "a réd circle")
