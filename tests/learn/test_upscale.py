"""Training the small net: what it sees, that it resumes, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flickbook.learn import checkpoint
from flickbook.learn.upscale import (
    Sample,
    Score,
    UpscaleConfig,
    UpscaleTrainer,
    autoencoder,
    bank,
    doubled,
    halved,
    load_bank,
    main,
    save_bank,
    seen,
)
from flickbook.media.finishing.upscale import upscale
from flickbook.world.render import render
from flickbook.world.scenes import sample

CONFIG = UpscaleConfig(
    features=8, convolutions=1, world={"core": 2, "views": 1}, frames_per_film=2, crop=24, batch=2, steps=4
)


@pytest.fixture(scope="module")
def films() -> list[Sample]:
    """Three films without an autoencoder: what is decoded is a little darker."""
    found = []
    for scene in (sample(1), sample(2), sample(3, "pair")):
        film = render(scene)[::8]
        found.append({"clean": film, "decoded": film - np.minimum(film, 9), "large": doubled(scene)[::8]})
    return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("group", ["core", "pair", "digits"])
def test_the_larger_truth_shows_the_very_same_film(group: str) -> None:
    for seed in range(4):
        scene = sample(seed, group)
        large = doubled(scene)
        assert large.shape == (16, 256, 256, 3) and large.dtype == np.uint8
        assert psnr(halved(large), render(scene)) > 36
        # It holds more than its half: edges are sharper than what enlarging gives.
        assert psnr(upscale(halved(large), 2), large) < 45


def test_what_is_seen_of_objects_and_of_painted_scenes(published: Path) -> None:
    network = autoencoder(published)
    one = seen(sample(4), network, slice(0, None, 8))
    assert {name: film.shape for name, film in one.items()} == {
        "clean": (2, 128, 128, 3),
        "decoded": (2, 128, 128, 3),
        "large": (2, 256, 256, 3),
    }
    assert np.array_equal(one["clean"], render(sample(4))[::8])
    assert all(film.dtype == np.uint8 for film in one.values()) and not np.array_equal(one["clean"], one["decoded"])
    view = seen(sample(4, "views"), network, slice(0, None, 8))
    assert view["decoded"].shape == (2, 64, 64, 3) and np.array_equal(view["large"], render(sample(4, "views"))[::8])


def test_a_bank_is_the_same_each_time_and_survives_the_disk(published: Path, tmp_path: Path) -> None:
    first, second = (bank(CONFIG, autoencoder(published)) for _ in range(2))
    save_bank(first, tmp_path / "bank.safetensors")
    kept = load_bank(tmp_path / "bank.safetensors")
    assert [film["large"].shape for film in kept] == [(2, 256, 256, 3), (2, 128, 128, 3), (2, 256, 256, 3)]
    for a, b, c in zip(first, second, kept, strict=True):
        assert all(np.array_equal(a[name], b[name]) and np.array_equal(a[name], c[name]) for name in a)


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing() -> None:
    config = UpscaleConfig(steps=100, lr=1.0, warmup_steps=10, constant=0.5)
    rates = [config.learning_rate(step) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:51] == pytest.approx([1.0] * 41) and rates[75] == pytest.approx(0.5)
    assert rates[51:] == sorted(rates[51:], reverse=True) and rates[100] == pytest.approx(0)


def test_crops_show_one_place_and_follow_from_seed_and_step(films: list[Sample], tmp_path: Path) -> None:
    trainer = UpscaleTrainer(replace(CONFIG, batch=12, decoded=0.0), films, tmp_path)
    small, large = trainer.batch()
    assert small.shape == (12, 3, 24, 24) and large.shape == (12, 3, 48, 48)
    assert float(small.min()) >= 0 and float(small.max()) <= 1
    assert float((torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean()) < 0.01
    assert all(torch.equal(a, b) for a, b in zip(trainer.batch(), (small, large), strict=True))
    trainer.number = 1
    assert not torch.equal(trainer.batch()[0], small)
    darker = UpscaleTrainer(replace(CONFIG, batch=12, decoded=1.0), films, tmp_path).batch()[0]
    assert float((small - darker).mean()) == pytest.approx(9 / 255, abs=0.01)


def test_a_resumed_run_ends_in_the_same_weights(
    films: list[Sample], tmp_path: Path, weights: Callable[[dict[str, Tensor]], str]
) -> None:
    straight = UpscaleTrainer(CONFIG, films, tmp_path / "straight")
    rows = list(straight.run(log_every=2))
    assert [row["step"] for row in rows] == [2, 4] and all(math.isfinite(row["loss"]) for row in rows)
    stopped = UpscaleTrainer(CONFIG, films, tmp_path / "stopped")
    for _ in range(3):
        stopped.step()
    stopped.save()
    newest = checkpoint.latest(tmp_path / "stopped")
    assert newest is not None
    resumed = UpscaleTrainer(CONFIG, films, tmp_path / "stopped")
    resumed.restore(newest)
    list(resumed.run())
    assert resumed.number == 4
    assert weights(resumed.averaged().state_dict()) == weights(straight.averaged().state_dict())
    assert weights(straight.average) != weights(straight.network.state_dict())


def test_it_learns(films: list[Sample], tmp_path: Path) -> None:
    config = replace(CONFIG, batch=8, steps=40, warmup_steps=5, lr=1e-2)
    rows = [row["psnr"] for row in UpscaleTrainer(config, films, tmp_path).run(log_every=8)]
    assert rows[-1] > rows[0] + 0.5


def test_a_score_of_known_films() -> None:
    truth = np.full((4, 8, 8, 3), 100, np.uint8)
    steady, flickering = truth + 5, truth + np.array([5, 0, 5, 0], np.uint8)[:, None, None, None]
    assert Score.of([(steady, truth)]) == Score(pytest.approx(20 * math.log10(255 / 5), abs=1e-4), 0.0)
    assert Score.of([(flickering, truth)]).flicker == pytest.approx(5)


def test_a_whole_run_leaves_weights_that_enlarge(published: Path, tmp_path: Path) -> None:
    path = main(tmp_path / "run", CONFIG, published)
    assert upscale(render(sample(1))[:1], 2, model=path).shape == (1, 256, 256, 3)
    before = path.read_bytes()
    path.unlink()
    assert main(tmp_path / "run", CONFIG, published).read_bytes() == before
