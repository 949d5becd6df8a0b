"""The script for a GPU, on a CPU with networks of a million weights: every row is there, or says why it is not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import gpu
from bench.gpu_sides import WAYS, Case, Failed, networks_of


def given(out: Path, **changed: Any) -> argparse.Namespace:
    values = {"out": out, "device": "cpu", "pairs": 2, "budget": 1e6, "reserve": 0, "only": [], "tiny": True}
    return argparse.Namespace(**{**values, "without": ["stock compiled", "ours compiled"], **changed})


@pytest.mark.slow
def test_every_row_is_there_or_says_why_not(tmp_path: Path) -> None:
    found = gpu.measure(given(tmp_path / "gpu.json"))
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["cases"].keys() == found["cases"].keys()
    (case,) = found["cases"].values()
    assert {"ours", "stock eager"} <= set(case["ms"]) and case["missing"]["ours graph"] == "CUDA graphs need a GPU"
    assert set(case["ms"]) | set(case["missing"]) == set(WAYS) - {"stock compiled", "ours compiled"}
    assert case["tflop"] > 0 and case["floor_ms"] > 0
    text = gpu.table(found)
    assert "| ours |" in text and "control" in text and "CUDA graphs need a GPU" in text


@pytest.mark.slow
def test_what_there_is_no_time_for_says_so(tmp_path: Path) -> None:
    found = gpu.measure(given(tmp_path / "gpu.json", budget=0.0, reserve=30))
    (case,) = found["cases"].values()
    assert found["void"] and case["missing"]["ours"] == "no time was left for it"
    assert "no time was left for it" in gpu.table(found)


def test_both_networks_have_the_same_weights_and_answer_alike() -> None:
    networks, count = networks_of(gpu.TINY, torch.device("cpu"), torch.float32)
    inputs = Case(2, 4, 4, 1).inputs(gpu.TINY, torch.device("cpu"), torch.float32)
    mine, theirs = (WAYS[name](networks, inputs)[0]() for name in ("ours", "stock eager"))
    assert count == sum(each.numel() for each in networks["stock"].parameters())
    assert torch.allclose(mine, theirs, atol=1e-4)


def test_without_diffusers_its_rows_say_so() -> None:
    networks, _ = networks_of(gpu.TINY, torch.device("cpu"), torch.float32)
    inputs = Case(2, 4, 4, 1).inputs(gpu.TINY, torch.device("cpu"), torch.float32)
    for name in ("stock eager", "stock compiled", "DeepCache N=3"):
        with pytest.raises(Failed, match="diffusers is not here"):
            WAYS[name]({"ours": networks["ours"]}, inputs)
