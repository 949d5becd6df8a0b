"""Films stopped on the way, seen, and finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.contract.cases import CASES
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.diffusion.unet3d import UNet3D
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.draft import Draft, drafts
from flickbook.engine.films import Keep, RunOptions, films, forget
from flickbook.errors import Cancelled, RequestError
from flickbook.resolution import resolve
from flickbook.spec import Plan, Step

MakePlan = Callable[..., Plan]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return lambda plans: Checkpointer(tmp_path / "drafts" / f"{plans[0].seed}.safetensors")


def finished(draft: Draft, keep: Keep, path: Path) -> tuple[str, list[int]]:
    """The hash of the draft's whole film, and the denoising steps it was told of."""
    checkpointer, steps = keep([draft.plan]), list[Step]()
    assert checkpointer is not None

    def resume(_: Sequence[Plan]) -> Checkpointer:
        return Checkpointer(path, also=[checkpointer.path])

    (clip,) = films([draft.plan], RunOptions(placement=draft.placement), keep=resume, on_step=steps.append)
    assert clip.recipe is not None and clip.run is not None
    assert clip.run.notes == [f"resumed from step {draft.index} of {draft.total}"]
    return clip.recipe.frames_sha256, [step.index for step in steps if step.phase == "denoise"]


@pytest.mark.slow
def test_a_finished_draft_repeats_no_step(plan: MakePlan, keep: Keep, tmp_path: Path) -> None:
    plans = [plan(seed=seed, num_inference_steps=5) for seed in (1, 2)]
    whole = [clip.recipe.frames_sha256 for one in plans for clip in films([one]) if clip.recipe is not None]
    forget()
    made = list(drafts(plans, until=0.4, keep=keep))
    assert [(draft.plan, draft.index, draft.total, draft.fps) for draft in made] == [(p, 2, 5, p.fps) for p in plans]
    assert all(draft.frames.shape == (4, 128, 128, 3) and draft.frames.dtype == np.uint8 for draft in made)
    assert not np.array_equal(made[0].frames, made[1].frames) and not any(draft.notes for draft in made)
    forget()
    for draft, expected in zip(reversed(made), reversed(whole), strict=True):
        assert finished(draft, keep, tmp_path / "film.safetensors") == (expected, [2, 3, 4, 5])


def test_an_existing_draft_is_shown_without_denoising(
    plan: MakePlan, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = drafts([plan(scheduler="dpm++")], until=0.5, keep=keep)
    monkeypatch.setattr(UNet3D, "forward", None)
    (again,) = drafts([plan(scheduler="dpm++")], until=0.5, keep=keep)
    assert np.array_equal(again.frames, first.frames) and again.notes == ("resumed from step 2 of 3",)


def test_a_draft_can_be_drawn_further_and_stopped(plan: MakePlan, keep: Keep) -> None:
    (first,) = drafts([plan()], until=0.1, keep=keep)
    (second,) = drafts([plan()], until=0.6, keep=keep)
    assert (first.index, second.index) == (1, 2) and not np.array_equal(first.frames, second.frames)
    steps: list[Step] = []
    with pytest.raises(Cancelled):
        list(drafts([plan(seed=9)], until=0.9, keep=keep, on_step=steps.append, cancel=lambda: bool(steps)))


def test_drafts_can_be_made_without_checkpoints(plan: MakePlan) -> None:
    (draft,) = drafts([plan(num_inference_steps=2)], until=0.99)
    assert draft.index == 2, "of few steps a share may be all; it is seen and not written"


@pytest.mark.parametrize("until", [0.0, 1.0, 1.5, -0.1])
def test_until_1_is_refused_for_a_draft(plan: MakePlan, until: float) -> None:
    with pytest.raises(RequestError, match="^until="):
        next(drafts([plan()], until=until))


def test_the_film_of_a_pipelines_draft_continues_after_it(data: Path, tmp_path: Path, keep: Keep) -> None:
    case = next(each for each in CASES if each.build == "sd15")
    case.save(tmp_path / "sd15")
    catalogue.add(case.model(tmp_path / "sd15"))
    made = resolve(request_of(case, "tiny-sd15", "text", tmp_path, num_inference_steps=4))
    (draft,) = drafts([made], until=0.5, keep=keep)
    assert (draft.index, draft.total) == (2, 4) and draft.frames.shape[0] == made.num_frames
    steps: list[Step] = []
    (clip,) = films([made], keep=keep, on_step=steps.append)
    assert clip.run is not None and "resumed from step 2 of 4" in clip.run.notes
    assert [step.index for step in steps if step.phase == "denoise"] == [2, 3, 4]
