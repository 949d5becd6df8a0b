"""What a run shows while it learns."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.learn import progress
from flickbook.learn.dataset import EVALUATION_SEEDS
from flickbook.learn.progress import Adherence
from flickbook.learn.train import Trainer

Make = Callable[..., Trainer]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def watch(trainer: Make, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Adherence]:
    """A watch over a fresh trainer that looks every four steps, at one object and one view instead of 32 films, made
    in two steps: networks drawn by lot make no better ones.
    """
    monkeypatch.setattr(progress, "_STEPS", 2)

    def make() -> Adherence:
        found = Adherence(trainer(tmp_path), TextToVideo.load(published), every=4)
        found.scenes = [found.scenes[0], found.scenes[-1]]
        return found

    return make


@pytest.mark.slow
def test_sheets_shares_and_a_plot_at_intervals(watch: Callable[[], Adherence], tmp_path: Path) -> None:
    made = watch()
    for row in made.trainer.run(log_every=2):
        made(row)
    assert [path.name for path in sorted(tmp_path.glob("sample-*.png"))] == [
        "sample-000004.png",
        "sample-000008.png",
        "sample-000012.png",
    ]
    found = rows(tmp_path / "adherence.csv")
    assert [row["step"] for row in found] == ["4", "8", "12"]
    assert list(found[0]) == ["step", "clips", "colour", "shape", "motion", "background", "count", "scenes"]
    assert all(0 <= float(row[name]) <= 1 for row in found for name in list(row)[2:])
    with Image.open(tmp_path / "training.png") as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_looking_changes_nothing_in_the_training(
    watch: Callable[[], Adherence], trainer: Make, tmp_path: Path, weights: Callable[[dict[str, torch.Tensor]], str]
) -> None:
    made, alone = watch(), trainer(tmp_path / "alone")
    for _ in range(3):
        made.trainer.step()
        made.look(tmp_path / "look.png")
        alone.step()
    assert weights(made.trainer.model.state_dict()) == weights(alone.model.state_dict())


def test_looks_that_a_kill_undid_leave_the_table(watch: Callable[[], Adherence], tmp_path: Path) -> None:
    (tmp_path / "adherence.csv").write_text("step,clips,colour\r\n0,0,0.1\r\n4,16,0.2\r\n8,")
    watch()
    assert [row["step"] for row in rows(tmp_path / "adherence.csv")] == ["0"]


def test_the_fixed_prompts_are_of_no_other_set(watch: Callable[[], Adherence], trainer: Make, tmp_path: Path) -> None:
    scenes = Adherence(watch().trainer, watch().networks, every=4).scenes
    assert [scene.kind for scene in scenes[:24]] == ["core"] * 24 and len(scenes) == 32
    assert all(400_000_000 < scene.seed < EVALUATION_SEEDS for scene in scenes)
