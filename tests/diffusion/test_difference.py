"""Weights stored as their difference from another network's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flickbook.diffusion.difference import Difference, save_difference
from flickbook.diffusion.weights import load_weights, save_weights
from flickbook.errors import WeightsError


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.Conv2d(3, 5, 3))


def two(tmp_path: Path) -> tuple[nn.Module, nn.Module]:
    """A base, as its file in float16 has it, and a network near it whose difference is in d.safetensors."""
    torch.manual_seed(0)
    save_weights(build(), tmp_path / "base.safetensors")
    base, near = (load_weights(build, tmp_path / "base.safetensors") for _ in range(2))
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
        near.get_parameter("2.bias").copy_(base.get_parameter("2.bias"))
    save_difference(near.state_dict(), base.state_dict(), tmp_path / "d.safetensors")
    return base, near


def test_a_network_is_near_what_was_saved(tmp_path: Path) -> None:
    base, near = two(tmp_path)
    found = load_weights(build, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"))
    for name, value in found.state_dict().items():
        was, true = base.state_dict()[name], near.state_dict()[name]
        step = (true - was).abs().max() / 7
        assert (value - true).abs().max() <= 0.51 * step, name
    assert torch.equal(found.get_parameter("2.bias"), base.get_parameter("2.bias")), "a row without a difference"
    half = load_weights(
        build, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"), dtype=torch.bfloat16
    )
    assert torch.equal(half.get_parameter("0.weight"), found.get_parameter("0.weight").bfloat16()), (
        "added before it is rounded"
    )


def test_a_difference_of_another_network_is_refused(tmp_path: Path) -> None:
    two(tmp_path)
    tensors = load_file(tmp_path / "d.safetensors")
    wrong = {
        "misses 1.bias": {name: value for name, value in tensors.items() if name != "1.bias"},
        r"has another shape in 2.weight": {**tensors, "2.weight": tensors["2.weight"][:-1].clone()},
        "misses 0.weight.step": {name: value for name, value in tensors.items() if name != "0.weight.step"},
        "has unexpected 3.weight": {**tensors, "3.weight": tensors["1.weight"].clone()},
    }
    for message, changed in wrong.items():
        save_file(changed, tmp_path / "d.safetensors")
        with pytest.raises(WeightsError, match=f"d.safetensors.*{message}"):
            load_weights(build, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"))
    (tmp_path / "d.safetensors").write_bytes(b"\x10")
    with pytest.raises(WeightsError, match="damaged"):
        Difference(tmp_path / "d.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        Difference(tmp_path / "e.safetensors")
