"""Teaching the tiny decoder, on a few pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flickbook.catalogue import find
from flickbook.diffusion.sketch import load_sketch
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.hub.find import directory
from flickbook.learn import sketch
from flickbook.learn.sketch import SketchTrainer, decoded, estimates, likeness, readings


@pytest.fixture(scope="module")
def networks() -> TextToVideo:
    return TextToVideo.load(directory(find("builtin")))


@pytest.fixture(scope="module")
def latents(networks: TextToVideo) -> torch.Tensor:
    return readings(networks, 5, 0)


@pytest.mark.trial
def test_it_comes_nearer_to_the_autoencoder_and_is_saved(
    networks: TextToVideo, latents: torch.Tensor, tmp_path: Path
) -> None:
    assert latents.shape == (20, 8, 8, 8), "four frames of a film of each kind"
    answers = decoded(networks, latents)
    trainer = SketchTrainer(latents, answers, steps=80)
    before = likeness(trainer.averaged(), latents, answers)
    losses = [trainer.step(number) for number in range(80)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5]) and likeness(trainer.averaged(), latents, answers) > before + 3
    path = tmp_path / "sketch.safetensors"
    trainer.save(path)
    drawn = load_sketch(path)(latents[:2])
    assert drawn.shape == (2, 3, 128, 128) and [each.name for each in tmp_path.iterdir()] == [path.name]
    again = SketchTrainer(latents, answers, steps=80)
    assert again.step(0) == losses[0], "a draw is known by its seed and its step"


@pytest.mark.slow
def test_it_learns_from_what_previews_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "_COUNTS", {"core": 1, "views": 1})
    found = estimates(2, 0)
    assert found.shape[1:] == (8, 8, 8) and len(found) == 2 * 8 * 4, "eight estimates of four frames of each film"
