"""Weights from disk: exact keys, and nothing but safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from flickbook.diffusion.weights import Difference, load_weights, save_difference, save_weights
from flickbook.engine.memory import device
from flickbook.errors import WeightsError


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def saved(path: Path, **changes: torch.Tensor | None) -> nn.Sequential:
    """A file of random weights; a change of None leaves a key out, `a_b` stands for the key `a.b`."""
    torch.manual_seed(0)
    module = build()
    state = dict(module.state_dict())
    for name, value in changes.items():
        key = name.replace("_", ".")
        state.pop(key, None)
        if value is not None:
            state[key] = value
    save_file(state, path)
    return module


def test_loads_what_was_saved(tmp_path: Path) -> None:
    module = saved(tmp_path / "m.safetensors")
    found = load_weights(build, tmp_path / "m.safetensors")
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), module.state_dict().values(), strict=True)
    )
    assert all(not p.is_meta and p.requires_grad and p.dtype == torch.float32 for p in found.parameters())
    x = torch.randn(5, 3)
    assert torch.equal(found(x), module(x))


def _layers_on_disk(path: Path, count: int) -> None:
    """Linear layers of 2048 to 4096 in float16, 16 MiB each, whose first weight is their number; not made in memory,
    which would stay there."""
    size = 4096 * 2048 * 2
    tensors = {
        f"{n}.weight": {"dtype": "F16", "shape": [4096, 2048], "data_offsets": [n * size, (n + 1) * size]}
        for n in range(count)
    }
    header = json.dumps(tensors).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        begin = file.tell()
        file.truncate(begin + count * size)
        for number in range(count):
            file.seek(begin + number * size)
            file.write(np.float16(number).tobytes())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loading_takes_no_more_memory_than_the_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    """Also where they are converted: of the file only a part is in memory at once."""
    count, path = 12, tmp_path / "m.safetensors"
    _layers_on_disk(path, count)
    device.forget_peak()
    before = device.peak_memory()
    layers = [nn.Linear(2048, 4096, bias=False, device="meta") for _ in range(count)]
    found = load_weights(lambda: nn.Sequential(*layers), path, dtype=dtype)
    assert [int(layer.weight[0, 0]) for layer in found] == list(range(count))  # type: ignore[index]
    size = sum(weight.numel() * weight.element_size() for weight in found.parameters())
    assert device.peak_memory() - before < 1.1 * size + (48 << 20)


def test_the_network_is_built_without_memory(tmp_path: Path) -> None:
    saved(tmp_path / "m.safetensors")
    was_meta: list[bool] = []

    def watched() -> nn.Sequential:
        module = build()
        was_meta.extend(parameter.is_meta for parameter in module.parameters())
        return module

    load_weights(watched, tmp_path / "m.safetensors")
    assert was_meta == [True] * 6


def test_half_precision_on_disk_and_back(tmp_path: Path) -> None:
    module = saved(tmp_path / "m.safetensors")
    save_weights(module, tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "m.safetensors").stat().st_size
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    found = load_weights(build, tmp_path / "half.safetensors")
    assert found[0].weight.dtype == torch.float32
    assert torch.equal(found.state_dict()["0.weight"], module.state_dict()["0.weight"].half().float())
    assert load_weights(build, tmp_path / "half.safetensors", dtype=torch.bfloat16)[0].weight.dtype == torch.bfloat16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.safetensors", "m.safetensors"]


def test_names_the_keys_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    cases: list[tuple[dict[str, torch.Tensor | None], str]] = [
        ({"0_weight": None}, "misses 0.weight"),
        ({"0_weight": None, "2_weight": torch.zeros(2, 5)}, r"misses 0.weight; has another shape in 2.weight"),
        ({"extra": torch.zeros(1)}, "has unexpected extra"),
        ({"2_weight": torch.zeros(2, 5)}, r"another shape in 2.weight \[2, 5\] not \[2, 4\]"),
        ({f"x{i}": torch.zeros(1) for i in range(5)}, "x0, x1, x2 and 2 more"),
    ]
    for changes, reason in cases:
        saved(path, **changes)
        with pytest.raises(WeightsError, match=reason) as caught:
            load_weights(build, path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_rename_maps_the_files_keys(tmp_path: Path) -> None:
    module = saved(tmp_path / "m.safetensors")
    save_file(
        {f"old.{k}": v for k, v in module.state_dict().items()} | {"buffer": torch.zeros(1)}, tmp_path / "o.safetensors"
    )
    found = load_weights(
        build,
        tmp_path / "o.safetensors",
        rename=lambda keys: {key: key.removeprefix("old.") for key in keys if key != "buffer"},
    )
    assert torch.equal(found.state_dict()["2.bias"], module.state_dict()["2.bias"])


def test_refuses_every_format_but_safetensors(tmp_path: Path) -> None:
    for name in ("model.bin", "model.ckpt", "model.pt", "model.safetensors.bin", "model"):
        torch.save(build().state_dict(), tmp_path / name)
        with pytest.raises(WeightsError, match="not a .safetensors file"):
            load_weights(build, tmp_path / name)
    # A pickle under a false name is not read as one either.
    torch.save(build().state_dict(), tmp_path / "false.safetensors")
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(build, tmp_path / "false.safetensors")


def test_refuses_missing_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(build, path)
    saved(path)
    data = path.read_bytes()
    for broken in (b"", data[:20], data[:-4], b"\xff" * 8 + data[8:]):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="damaged"):
            load_weights(build, path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(data)
    with pytest.raises(WeightsError):
        load_weights(build, weights)


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.Conv2d(3, 5, 3))


def two(tmp_path: Path) -> tuple[nn.Module, nn.Module]:
    """A base, as its file in float16 has it, and a network near it whose difference is in d.safetensors."""
    torch.manual_seed(0)
    save_weights(layers(), tmp_path / "base.safetensors")
    base, near = (load_weights(layers, tmp_path / "base.safetensors") for _ in range(2))
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
        near.get_parameter("2.bias").copy_(base.get_parameter("2.bias"))
    save_difference(near.state_dict(), base.state_dict(), tmp_path / "d.safetensors")
    return base, near


def test_a_network_is_near_what_was_saved(tmp_path: Path) -> None:
    base, near = two(tmp_path)
    found = load_weights(layers, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"))
    for name, value in found.state_dict().items():
        was, true = base.state_dict()[name], near.state_dict()[name]
        step = (true - was).abs().max() / 7
        assert (value - true).abs().max() <= 0.51 * step, name
    assert torch.equal(found.get_parameter("2.bias"), base.get_parameter("2.bias")), "a row without a difference"
    half = load_weights(
        layers, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"), dtype=torch.bfloat16
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
            load_weights(layers, tmp_path / "base.safetensors", difference=Difference(tmp_path / "d.safetensors"))
    (tmp_path / "d.safetensors").write_bytes(b"\x10")
    with pytest.raises(WeightsError, match="damaged"):
        Difference(tmp_path / "d.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        Difference(tmp_path / "e.safetensors")
