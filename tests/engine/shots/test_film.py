"""Films of several shots: joined from shots that equal films of their own, resumed and reproduced to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flickbook
from flickbook.engine.films import RunOptions
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.engine.shots import shot_list
from flickbook.engine.shots.film import made, run_options_for_shots
from flickbook.engine.shots.plan import Shooting, shooting
from flickbook.errors import Cancelled
from flickbook.media.embedded import carried
from flickbook.media.read import read_any
from flickbook.spec import Step

SHOTS = [
    {"prompt": "a red circle moving left on a blue background", "num_frames": 4},
    {"prompt": "a yellow star on a black background", "num_frames": 5, "camera": "zoom-in"},
    {"prompt": "a yellow star spinning on a black background", "num_frames": 4, "begins": "previous"},
]


def planned(**document: Any) -> tuple[Shooting, RunOptions]:
    defaults = {"seed": 7, "num_inference_steps": 2}
    found = shooting(shot_list.of({"shots": SHOTS, "defaults": defaults, **document}), {"model": "builtin"})
    return found, run_options_for_shots(found.plan, found.request)


def test_shots_are_joined_and_each_equals_a_film_of_its_own() -> None:
    found, run_options = planned()
    clip = made(found.plan, run_options)
    assert clip.frames.shape == (4 + 5 + 3, 128, 128, 3)
    alone = flickbook.generate(SHOTS[0]["prompt"], num_frames=4, num_inference_steps=2, seed=7)
    assert np.array_equal(clip.frames[:4], alone.frames)
    assert clip.recipe is not None and len(clip.recipe.shots) == 3
    assert clip.recipe.shots[0].frames_sha256 == alone.recipe.frames_sha256


def test_the_scores_of_the_world_are_the_means_of_the_shots_that_have_them(tmp_path: Path) -> None:
    found, run_options = planned()
    clip = made(found.plan, run_options, directory=tmp_path)
    of_shots = [carried(tmp_path / f"0{number}.mkv")[1].scores for number in (1, 2, 3)]
    for name in ("agreement", "steadiness"):
        each = [scores[name] for scores in of_shots if name in scores]
        assert each and clip.run is not None and clip.run.scores[name] == pytest.approx(np.mean(each))


def test_progress_counts_the_steps_of_all_shots() -> None:
    found, run_options = planned()
    steps: list[Step] = []
    made(found.plan, run_options, on_step=steps.append)
    denoised = [(step.index, step.total) for step in steps if step.phase == "denoise"]
    assert denoised[-1] == (6, 6) and denoised == sorted(denoised)


@pytest.mark.slow
def test_a_run_that_was_stopped_reuses_finished_shots_and_gives_the_same_film(tmp_path: Path) -> None:
    found, run_options = planned(fade=1)
    whole = made(found.plan, run_options)
    steps: list[Step] = []
    with pytest.raises(Cancelled):
        made(found.plan, run_options, directory=tmp_path, on_step=steps.append, cancel=lambda: len(steps) > 5)
    kept = sorted(path.name for path in tmp_path.glob("*.mkv"))
    assert kept and len(kept) < 3
    damaged = tmp_path / kept[0]
    before = damaged.read_bytes()
    resumed = made(found.plan, run_options, directory=tmp_path)
    assert np.array_equal(resumed.frames, whole.frames)
    assert any("existed already" in note for note in resumed.run.notes)
    damaged.write_bytes(before[: len(before) // 2])
    assert np.array_equal(made(found.plan, run_options, directory=tmp_path).frames, whole.frames)


@pytest.mark.slow
def test_a_film_of_shots_is_reproduced_from_its_file(tmp_path: Path) -> None:
    found, run_options = planned(fade=1)
    path = made(found.plan, run_options).save(tmp_path / "film.mp4")
    verdict = reproduce(path)
    assert verdict.outcome == "identical" and verdict.identical_files, verdict.line()


def chained() -> tuple[Shooting, RunOptions]:
    """Two shots of 6 frames; the second one continues from the latents of the first."""
    shots = [SHOTS[0] | {"num_frames": 6}, SHOTS[0] | {"num_frames": 6, "begins": "previous"}]
    found, run_options = planned(shots=shots)
    assert found.plan.shots[1].plan.overlap == 6
    return found, run_options


@pytest.mark.slow
def test_a_shot_that_continues_from_latents_is_resumed_and_reproduced_to_the_bit(tmp_path: Path) -> None:
    found, run_options = chained()
    whole, takes = made(found.plan, run_options), tmp_path / "takes"
    assert len(whole.frames) == 6 + 5
    with pytest.raises(Cancelled):
        made(found.plan, run_options, directory=takes, cancel=(takes / "01.mkv").exists)
    assert sorted(path.name for path in takes.iterdir()) == ["01.mkv", "01.mkv.json", "01.safetensors"]
    resumed = made(found.plan, run_options, directory=takes)
    assert np.array_equal(resumed.frames, whole.frames) and resumed.recipe.shots == whole.recipe.shots
    # Without its latents a finished shot is of no use to the next one: it is made again.
    (takes / "01.safetensors").unlink()
    (takes / "02.mkv").unlink()
    again = made(found.plan, run_options, directory=takes)
    assert np.array_equal(again.frames, whole.frames) and not any("existed already" in note for note in again.run.notes)
    path = whole.save(tmp_path / "film.mp4")
    verdict = reproduce(path)
    assert verdict.outcome == "identical" and verdict.identical_files, verdict.line()


def test_the_overlap_shows_the_end_of_the_shot_before(tmp_path: Path) -> None:
    found, run_options = chained()
    made(found.plan, run_options, directory=tmp_path)
    first, second = (read_any(tmp_path / f"0{number}.mkv")[0] for number in (1, 2))
    # Kept as float16, so a pixel may differ by one.
    assert np.abs(second[:6].astype(int) - first).max() <= 2
