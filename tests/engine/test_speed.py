"""The levels of speed on the built-in model: what balanced may cost, and that its guard sees harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from flickbook import generate
from flickbook.diffusion.forecast import Answers, Pace
from flickbook.engine.films import forget
from flickbook.engine.unet import family
from flickbook.errors import RequestError
from flickbook.media.clip import Clip
from flickbook.media.metrics.similarity import psnr, ssim

PROMPTS = (
    "a red circle moving left on a blue background",
    "a small yellow star spinning on a black background",
    "a large green square growing on a white background",
)
#: What "balanced" may cost against our own exact run.
WORST, MEAN, LIKENESS = 30.0, 32.0, 0.95


def films(speed: str) -> list[Clip]:
    return [generate(prompt, seed=seed, num_frames=8, speed=speed) for seed, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def exact() -> list[Clip]:
    return films("exact")


@pytest.fixture
def guarded(exact: list[Clip]) -> Iterator[Any]:
    """Whether films are near enough to the exact ones."""

    def near(found: list[Clip]) -> bool:
        away = [psnr(one.frames, other.frames) for one, other in zip(found, exact, strict=True)]
        pairs = [
            pair for one, other in zip(found, exact, strict=True) for pair in zip(one.frames, other.frames, strict=True)
        ]
        return min(away) >= WORST and float(np.mean(away)) >= MEAN and min(ssim(*pair) for pair in pairs) >= LIKENESS

    yield near


@pytest.mark.slow
def test_balanced_skips_network_calls_and_looks_the_same(exact: list[Clip], guarded: Any) -> None:
    """And an exact film after them is exact."""
    forget()
    found = films("balanced")
    assert guarded(found)
    for clip in found:
        assert clip.recipe is not None and clip.run is not None and clip.recipe.plan.speed == "balanced"
        (note,) = [note for note in clip.run.notes if note.startswith("speed balanced: ")]
        assert 8 <= int(note.split()[2]) <= 16 and note.endswith("of 25 steps were forecast")
    assert all("speed" not in note for clip in exact for note in (clip.run.notes if clip.run else []))
    assert found[0].recipe != exact[0].recipe
    after = generate(PROMPTS[0], seed=0, num_frames=8)
    assert after.recipe is not None and after.recipe.placement.dtype == "float32"
    np.testing.assert_array_equal(after.frames, exact[0].frames)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["stale", "reckless"])
def test_the_quality_guard_detects_a_broken_forecast(
    broken: str, guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "stale":

        def first(answers: Answers, timestep: int) -> Tensor:
            return answers.estimates[0] * 0.5

        monkeypatch.setattr(Answers, "forecast", first)
    monkeypatch.setitem(family.PACES, "balanced", Pace(error=1e9, most=20))
    assert not guarded(films("balanced"))


@pytest.mark.slow
def test_speed_words_change_generation_and_numbers_playback() -> None:
    short: dict[str, Any] = {"num_frames": 2, "num_inference_steps": 4, "seed": 1}
    plans = {
        speed: clip.recipe.plan
        for speed in ("exact", "balanced", 2, "2", "balanced,2")
        if (clip := generate(PROMPTS[0], **short, speed=speed)).recipe is not None
    }
    assert [plan.speed for plan in plans.values()] == ["exact", "balanced", "exact", "exact", "balanced"]
    assert [plan.polish.speed for plan in plans.values()] == [1.0, 1.0, 2.0, 2.0, 2.0]
    for wrong in ("fast", "2,3", "exact,balanced", "nan", ""):
        with pytest.raises(RequestError, match="speed="):
            generate(PROMPTS[0], **short, speed=wrong)
