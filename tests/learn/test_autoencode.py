"""Training the autoencoder, and giving its latents unit size."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.learn import checkpoint
from flickbook.learn.autoencode import (
    AutoencodeConfig,
    AutoencoderTrainer,
    frame_bank,
    latent_statistics,
    loss_of,
    normalise,
    psnr,
)
from flickbook.learn.dataset import pixels, training_scenes
from flickbook.world.render import render


@pytest.fixture
def config(values: dict[str, Any]) -> AutoencodeConfig:
    return AutoencodeConfig(**values["autoencoder"])


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    config = AutoencodeConfig(crop_steps=60, whole_steps=40, lr=1.0, lr_end=0.1, warmup_steps=10, constant=0.5)
    rates = [config.learning_rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:51] == pytest.approx([1.0] * 41)
    assert rates[75] == pytest.approx(0.55)
    assert rates[51:] == sorted(rates[51:], reverse=True) and rates[99] == pytest.approx(0.1, abs=0.01)


def test_the_bank_holds_frames_spread_over_every_film() -> None:
    config = AutoencodeConfig(world={"core": 3}, frames_per_film=4)
    bank = frame_bank(config)
    assert bank.shape == (12, 128, 128, 3) and bank.dtype == np.uint8
    for place, scene in enumerate(training_scenes({"core": 3})):
        assert np.array_equal(bank[4 * place : 4 * place + 4], render(scene)[place::4])


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_the_bank_of_another_process_keeps_no_film_open() -> None:
    """With room for 40 more files, 60 films."""
    resource = pytest.importorskip("resource")
    config = AutoencodeConfig(world={"core": 60}, frames_per_film=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        bank = frame_bank(config, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert np.array_equal(bank, frame_bank(config))


def test_psnr_of_a_known_error() -> None:
    images = torch.zeros(2, 3, 4, 4)
    assert psnr(images, images + 0.1) == pytest.approx(10 * math.log10(4 / 0.01), abs=1e-3)
    assert psnr(images, images) > 100


def test_the_loss_is_nothing_for_equals_and_sees_edges() -> None:
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(loss_of(images, images)) == 0
    stripes = 0.1 * (torch.arange(8) % 2 * 2 - 1.0)
    assert float(loss_of(images, images + stripes)) > float(loss_of(images, images + 0.1)) > 0


@pytest.fixture
def bank(config: AutoencodeConfig) -> np.ndarray:
    return frame_bank(config)


def test_crops_then_whole_frames_drawn_from_seed_and_step(
    config: AutoencodeConfig, bank: np.ndarray, tmp_path: Path
) -> None:
    trainer = AutoencoderTrainer(config, bank, tmp_path)
    shapes, batches = [], []
    for trainer.number in range(4):
        batches.append(trainer.batch())
        shapes.append(tuple(batches[-1].shape))
    assert shapes == [(2, 3, 32, 32)] * 2 + [(1, 3, 128, 128)] * 2
    trainer.number = 1
    assert torch.equal(trainer.batch(), batches[1]) and not torch.equal(batches[0], batches[1])


def test_a_resumed_run_ends_in_the_same_weights(
    config: AutoencodeConfig, bank: np.ndarray, tmp_path: Path, weights: Callable[[dict[str, Tensor]], str]
) -> None:
    straight = AutoencoderTrainer(config, bank, tmp_path / "straight")
    rows = list(straight.run(log_every=2))
    assert [row["step"] for row in rows] == [2, 4] and all(math.isfinite(row["loss"]) for row in rows)
    stopped = AutoencoderTrainer(config, bank, tmp_path / "stopped")
    for _ in range(3):
        stopped.step()
    stopped.save()
    newest = checkpoint.latest(tmp_path / "stopped")
    assert newest is not None
    resumed = AutoencoderTrainer(config, bank, tmp_path / "stopped")
    resumed.restore(newest)
    assert resumed.number == 3
    list(resumed.run())
    assert weights(resumed.network.state_dict()) == weights(straight.network.state_dict())
    assert weights(resumed.average) == weights(straight.average)
    assert weights(straight.average) != weights(straight.network.state_dict())


def test_of_a_given_autoencoder_only_the_decoder_learns(
    config: AutoencodeConfig, bank: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    start = Autoencoder(AutoencoderConfig.from_dict(config.network)).state_dict()
    trainer = AutoencoderTrainer(replace(config, refine="decoder"), bank, tmp_path, start)
    list(trainer.run())
    changed = {name for name, value in trainer.average.items() if not torch.equal(value, start[name])}
    assert {name for name in start if name.startswith(("decoder.", "post_quant_conv."))} == changed


@pytest.mark.slow
def test_it_learns(values: dict[str, Any], bank: np.ndarray, tmp_path: Path) -> None:
    changes = {"crop_steps": 40, "whole_steps": 0, "crop_batch": 4, "lr": 3e-3}
    trainer = AutoencoderTrainer(AutoencodeConfig(**{**values["autoencoder"], **changes}), bank, tmp_path)
    losses = [trainer.step()["loss"] for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:4])


def test_normalised_latents_are_unit_and_pictures_stay(values: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig.from_dict(values["autoencoder"]["network"])).eval()
    scenes = list(training_scenes({"core": 3}))
    images = pixels(render(scenes[0]))
    with torch.no_grad():
        before = network.encode(images).mean
        expected = network.decode(before)
    mean, spread = latent_statistics(network, scenes)
    assert not torch.allclose(mean, torch.zeros(8), atol=1e-3)
    normalise(network, mean, spread)
    after, ones = latent_statistics(network, scenes)
    assert torch.allclose(after, torch.zeros(8), atol=1e-3) and torch.allclose(ones, torch.ones(8), atol=1e-3)
    with torch.no_grad():
        latents = network.encode(images)
        assert torch.allclose(latents.mean * spread[:, None, None] + mean[:, None, None], before, atol=1e-4)
        assert torch.allclose(network.decode(latents.mean), expected, atol=1e-4)
        # Sampling the published distribution is taking its mean.
        assert float((latents.sample() - latents.mean).abs().max()) < 0.02
