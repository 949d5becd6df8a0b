"""Weights from disk: exact keys, hashes, and nothing but safetensors."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from flickbook.diffusion.weights import (
    HashCache,
    load_weights,
    read_config,
    save_weights,
    verify,
    write_manifest,
)
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


def model(directory: Path) -> Path:
    (directory / "unet").mkdir()
    saved(directory / "unet" / "m.safetensors")
    write_manifest(directory)
    return directory / "unet" / "m.safetensors"


def test_verify_accepts_what_was_written(tmp_path: Path) -> None:
    model(tmp_path)
    manifest = verify(tmp_path)
    assert list(manifest) == ["unet/m.safetensors"] and len(manifest["unet/m.safetensors"]) == 64


def test_verify_names_both_hashes(tmp_path: Path) -> None:
    path = model(tmp_path)
    expected = verify(tmp_path)["unet/m.safetensors"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        verify(tmp_path)
    found = HashCache().sha256(path)
    assert found != expected and expected in str(caught.value) and found in str(caught.value)
    path.unlink()
    with pytest.raises(WeightsError, match="m.safetensors: No such file"):
        verify(tmp_path)


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/hostname", "a/../../b", "..\\b"])
def test_verify_stays_in_its_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({name: "0" * 64}))
    with pytest.raises(WeightsError, match="bad entry"):
        verify(tmp_path)


def settle(path: Path, seconds: int = 100) -> None:
    """Give a file a time of change in the past: what changed just now is not remembered."""
    then = path.stat().st_mtime_ns - seconds * 1_000_000_000
    os.utime(path, ns=(then, then))


def test_a_hash_is_remembered_until_size_or_time_changes(tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "deep" / "hashes.json"
    path.write_bytes(b"one")
    settle(path)
    first = HashCache(store).sha256(path)
    stamp = path.stat().st_mtime_ns
    # Same size and time: the remembered hash is taken, which shows that the file was not read again.
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))
    assert HashCache(store).sha256(path) == first
    os.utime(path, ns=(stamp + 1, stamp + 1))
    second = HashCache(store).sha256(path)
    assert second != first and second == HashCache().sha256(path)
    path.write_bytes(b"three")
    os.utime(path, ns=(stamp + 1, stamp + 1))
    assert HashCache(store).sha256(path) == HashCache().sha256(path) != second


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    HashCache(store).sha256(path)
    assert not store.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"%s": 3}', '{"%s": [1, 2]}'])
def test_a_damaged_cache_only_costs_time(text: str, tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    settle(path)
    store.write_text(text.replace("%s", str(path)))
    assert HashCache(store).sha256(path) == HashCache().sha256(path)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    settle(path)
    assert HashCache(path / "below a file" / "hashes.json").sha256(path) == HashCache().sha256(path)


def test_read_config_has_limits(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(WeightsError, match="No such file"):
        read_config(path)
    path.write_text('{"a": 1}')
    assert read_config(path) == {"a": 1}
    with pytest.raises(WeightsError, match="larger than 7 bytes"):
        read_config(path, limit=7)
    for text in ("[1]", "3", "{", "", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(WeightsError, match="not (a )?JSON"):
            read_config(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_read_but_never_crash(tmp_path: Path, data: bytes) -> None:
    config, weights = tmp_path / "c.json", tmp_path / "w.safetensors"
    config.write_bytes(data)
    weights.write_bytes(data)
    with contextlib.suppress(WeightsError):
        assert isinstance(read_config(config), dict)
    with pytest.raises(WeightsError):
        load_weights(build, weights)
