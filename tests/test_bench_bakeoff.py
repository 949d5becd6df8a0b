"""The candidates of the bake-off: called as the package's U-Net is, and trained with equal operations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench.bakeoff import race
from bench.bakeoff.race import CANDIDATES, config_of, model_of, operations_of, steps_of
from bench.bakeoff.report import read, table

from flickbook.diffusion.unet3d import UNet3D
from flickbook.errors import RequestError
from flickbook.learn import session
from flickbook.learn.evaluation.evaluate import Settings


@pytest.mark.parametrize("name", ["global", "transformer"])
def test_a_candidate_is_called_as_the_unet_is(name: str) -> None:
    """Keys and values of two prompts for each film give what two calls give, and every frame sees every other."""
    torch.manual_seed(0)
    network = model_of(CANDIDATES[name])(config_of(CANDIDATES[name], 10)).unet.eval()
    for parameter in network.parameters():  # some layers start at zero
        parameter.data += 0.02 * torch.randn_like(parameter)
    x, prompts, timestep = torch.randn(1, 8, 16, 8, 8), torch.randn(2, 48, 128), torch.tensor([300])
    with torch.inference_mode():
        both = network(x, timestep, network.prompt(prompts))
        each = torch.cat([network(x, timestep, prompt[None]) for prompt in prompts])
        assert both.shape == (2, 8, 16, 8, 8) and torch.allclose(both, each, atol=1e-4)
        assert not torch.allclose(both[0], both[1], atol=1e-3)
        changed = x.clone()
        changed[:, :, 15] += 1
        assert float((network(changed, timestep, prompts[:1]) - each[:1])[:, :, 0].abs().max()) > 1e-4


@pytest.mark.slow
def test_candidates_get_equal_operations() -> None:
    for candidate in CANDIDATES.values():
        steps = steps_of(candidate, 2e13)
        config = config_of(candidate, steps)
        assert config.steps == steps
        assert steps * operations_of(candidate, config) == pytest.approx(2e13, rel=0.02)
    assert type(model_of(CANDIDATES["unet"])(config_of(CANDIDATES["unet"], 10)).unet) is UNet3D


@pytest.mark.slow
def test_a_candidate_is_trained_and_then_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with an autoencoder of its own; measuring before the training has ended is refused."""
    usual = race.CONFIG.read_text(encoding="utf-8")
    assert "frames_per_step = 128\n" in usual
    monkeypatch.setattr(race, "CONFIG", tmp_path / "small.toml")
    race.CONFIG.write_text(usual.replace("frames_per_step = 128\n", "frames_per_step = 16\n"), encoding="utf-8")
    monkeypatch.setattr(race, "_WORLD", {"core": 2})
    monkeypatch.setattr(session, "_STATISTICS_FILMS", 1)
    quick, usually = {"settings": Settings(num_inference_steps=2), "calibration": 1}, race.evaluate
    monkeypatch.setattr(race, "evaluate", lambda *given, **fields: usually(*given, **fields | quick))
    steps = {"crop_steps": 2, "whole_steps": 1, "world": {"core": 2}}
    latents = replace(race.FACTOR_8, autoencoder=race.FACTOR_8.autoencoder | steps)
    candidate = replace(CANDIDATES["factor-8"], latents=latents)
    operations = 3 * operations_of(candidate, config_of(candidate, 3))
    with pytest.raises(RequestError, match="at step 0 of 3"):
        race.measure(candidate, operations, tmp_path, 2)
    race.train(candidate, operations, tmp_path, False)
    with pytest.raises(RequestError, match="must be those that the training"):
        race.train(candidate, 2 * operations, tmp_path, False)
    found = race.measure(candidate, operations, tmp_path, 2)
    assert found["steps"] == 3 and found["groups"]["core"]["all correct"]["total"] == 1
    assert (tmp_path / "factor-8" / "tokenizer" / "words.txt").exists()
    assert table(read(tmp_path, ("factor-8",))).startswith("| | U-Net, latents of factor 8 |")


def test_the_table_has_a_column_for_each_measured_candidate(tmp_path: Path) -> None:
    share = {"right": 9, "total": 10, "share": 0.9, "low": 0.6, "high": 0.98}
    found = {
        "title": "U-Net of the package",
        "parameters": 8_500_000,
        "operations": 3e14,
        "steps": 1947,
        "loss": 0.31,
        "groups": {"core": {"all correct": share, "shape": share}},
        "steadiness": {"core": {"share": 0.5}},
        "ceiling": {"core": {"psnr": 35.6}},
        "seconds_per_film": 1.5,
    }
    (tmp_path / "unet.json").write_text(json.dumps(found), encoding="utf-8")
    lines = table(read(tmp_path, ("unet", "global"))).splitlines()
    assert lines[0] == "| | U-Net of the package |"
    assert "| core: all correct | 90% (60 to 98) |" in lines and "| steps | 1,947 |" in lines
    assert "| all films: all correct | 9 of 10 |" in lines
