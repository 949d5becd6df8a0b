"""Checkpoints: whole pairs only, the last two kept, and an optimizer's state to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flickbook.errors import WeightsError
from flickbook.learn import checkpoint
from flickbook.learn.muon import Muon, groups_of


def tensors(value: float) -> dict[str, Tensor]:
    return {"model/a": torch.full((2, 3), value), "model/b": torch.tensor(value), "ema/a": torch.ones(2).half()}


def test_there_and_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "new", 12, tensors(0.1), {"progress": {"clips": 3}})
    found, values = checkpoint.load(path)
    assert values == {"step": 12, "progress": {"clips": 3}}
    assert set(found) == set(tensors(0.1))
    assert all(torch.equal(found[name], value) for name, value in tensors(0.1).items())
    assert set(checkpoint.part(found, "model/")) == {"a", "b"}


def test_a_view_is_saved_as_what_it_shows(tmp_path: Path) -> None:
    whole = torch.arange(6.0).view(2, 3)
    found, _ = checkpoint.load(checkpoint.save(tmp_path, 1, {"turned": whole.T}, {}))
    assert torch.equal(found["turned"], whole.T)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 900, 1000, 20000):
        checkpoint.save(tmp_path, step, tensors(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00001000.json",
        "checkpoint-00001000.safetensors",
        "checkpoint-00020000.json",
        "checkpoint-00020000.safetensors",
    ]
    newest = checkpoint.latest(tmp_path)
    assert newest is not None and checkpoint.load(newest)[1]["step"] == 20000


@pytest.mark.parametrize("left", ["checkpoint-00000009.safetensors", "checkpoint-00000009.json"])
def test_half_a_pair_does_not_count_and_is_swept_away(tmp_path: Path, left: str) -> None:
    """A kill between the two files, or one that lost the tensors."""
    before = checkpoint.save(tmp_path, 8, tensors(8), {})
    (tmp_path / left).write_bytes(b"{}")
    (tmp_path / "checkpoint-00000010.tmp").write_bytes(b"half")
    assert checkpoint.latest(tmp_path) == before
    checkpoint.save(tmp_path, 11, tensors(11), {}, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000011.json",
        "checkpoint-00000011.safetensors",
    ]


def test_there_is_none_in_an_empty_or_missing_directory(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "missing") is None


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, suffix: str) -> None:
    path = checkpoint.save(tmp_path, 3, tensors(3), {})
    whole = path.with_suffix(suffix).read_bytes()
    path.with_suffix(suffix).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="checkpoint-00000003.json: damaged"):
        checkpoint.load(path)


def test_an_optimizer_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Both kinds of state, Muon's and AdamW's, over a save and a load."""

    def make() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
        return network, Muon(groups_of(network, ("2",)), betas=(0.9, 0.99), weight_decay=0.01)

    def step(network: nn.Module, optimizer: Muon, number: int) -> None:
        data = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        network(data).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        optimizer.step()

    straight, steady = make()
    for number in range(3):
        step(straight, steady, number)
    state = {f"model/{k}": v for k, v in straight.state_dict().items()}
    state |= {f"adam/{k}": v for k, v in checkpoint.moments(steady).items()}
    found, _ = checkpoint.load(checkpoint.save(tmp_path, 3, state, {}))
    resumed, fresh = make()
    resumed.load_state_dict(checkpoint.part(found, "model/"))
    checkpoint.load_moments(fresh, checkpoint.part(found, "adam/"))
    for number in range(3, 6):
        step(straight, steady, number)
        step(resumed, fresh, number)
    for ours, theirs in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
