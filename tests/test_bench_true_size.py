"""The sections of the published size on far smaller networks: all of them run, and their reports are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench import held, published, replica, true_size
from bench.gpu import TINY
from bench.protocol import Turns
from bench.report import report
from tests.bench_runs import ABOUT

UNET = {**TINY, "cross_attention_dim": true_size.WIDTH}
VAE = {**published.MS_VAE, "block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a few layers, in a directory of their own."""
    whole = replica.MODELS[true_size.MODEL]
    configs = {"unet": UNET, "vae": VAE, "text_encoder": {**published.MS_TEXT, "num_hidden_layers": 1}}
    parts = {name: replace(whole.parts[name], config=config) for name, config in configs.items()}
    monkeypatch.setitem(replica.MODELS, true_size.MODEL, replace(whole, parts={**whole.parts, **parts}))
    monkeypatch.setattr(true_size, "PLACE", tmp_path / "replica")


@pytest.mark.trial
def test_the_section_runs_and_is_told() -> None:
    found = true_size.measure(1)
    for name in ("fp32", "bf16"):
        part = found[name]
        turns, ours = Turns.from_dict(part["turns"]), f"ours exact, {name}"
        assert len(turns.seconds) == 4 and all(seconds[0] > 0 for seconds in turns.seconds.values())
        assert part["sides"][ours]["beside_reference"]["error"] < (1e-4 if name == "fp32" else 0.1)
    text = report({"replica": {**found, "about": ABOUT}})
    assert "DeepCache N=3, fp32" in text and "Not measured: balanced" in text


@pytest.mark.trial
def test_its_memory_is_measured_and_told() -> None:
    found = held.measure()
    assert set(found["loading"]) == {"float32", "bfloat16"}
    assert all(each["own"] > 0 for sides in found["loading"].values() for each in sides.values())
    assert 0 < found["film"]["ours, bf16"] < found["film"]["stock, fp32"]
    text = report({"memory": {**found, "void": False, "about": ABOUT}})
    assert "load peak over the weights" in text and "16 frames of 256 x 256" in text
