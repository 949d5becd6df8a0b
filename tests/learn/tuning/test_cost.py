"""The estimate of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.learn.tuning.conftest import Make
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flickbook.errors import RequestError
from flickbook.learn.compute import memory
from flickbook.learn.tuning import cost
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.trainer import Tuner
from flickbook.learn.tuning.tune import Prepared, prepare, tune

GIB = 2**30


@pytest.mark.slow
@pytest.mark.parametrize("joint", [True, False])
def test_the_estimate_counts_the_operations_of_an_update(
    training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joint: bool
) -> None:
    (tmp_path / "known.txt").write_text("a cat\na dog\n", encoding="utf-8")
    prepared = prepare(replace(training("ms", prior=4, iterations=1), prior_prompts=tmp_path / "known.txt"))
    prepared.target.joint = joint
    estimate, alone = prepared.cost(), prepared.cost(processes=2)
    counted, update = [], Tuner.update

    def watched(tuner: Tuner) -> dict[str, float]:
        with FlopCounterMode(display=False) as counter:
            row = update(tuner)
        counted.append(counter.get_total_flops())
        return row

    monkeypatch.setattr(Tuner, "update", watched)
    tune(prepared)
    assert estimate.operations == pytest.approx(counted[0], rel=0.05)
    assert alone.operations == pytest.approx(counted[0] / 2, rel=0.05), "each process has its share of both batches"


class Loaded:
    """A target with networks of 4 GiB, and 6 GiB more from the first clip that it encodes until its release."""

    joint = False

    def __init__(self, device: str) -> None:
        self.device, self.used, self.reserved = torch.device(device), 4 * GIB, 4 * GIB
        self.networks = {"unet": nn.Linear(10, 10)}

    def encode(self, frames: np.ndarray) -> Tensor:
        self.used = self.reserved = 10 * GIB
        return torch.zeros(4, len(frames), 4, 4)

    def embed(self, caption: str) -> dict[str, Tensor]:
        return {}

    def release(self) -> None:
        self.used = 4 * GIB  # torch keeps the rest for later

    def units(self) -> Sequence[nn.Module]:
        return [nn.Linear(10, 10), nn.Linear(10, 20)]


def estimate(training: Make, patch: pytest.MonkeyPatch, target: Loaded, sample_every: int = 0, **config: Any) -> Any:
    """What a training needs whose backward pass keeps 3 GiB, on a GPU of 12 GiB of which others use 1, or on a
    processor; 100 weights are trained there."""
    trained = SimpleNamespace(device=target.device, numel=lambda: 100)
    host = SimpleNamespace(device=torch.device("cpu"), numel=lambda: 1000 if target.device.type == "cuda" else 0)
    patch.setattr(cost.adapter, "trained", lambda networks: {"a": trained, "b": host})
    patch.setattr(cost, "_pass", lambda *_: (3 * GIB, 3.0))
    patch.setattr(cost, "matmul_rate", lambda *_, **__: 1.0)
    patch.setattr(torch.cuda, "mem_get_info", lambda device: (11 * GIB - target.reserved, 12 * GIB))
    patch.setattr(torch.cuda, "memory_reserved", lambda device: target.reserved)
    patch.setattr(torch.cuda, "memory_allocated", lambda device: target.used)
    asked = replace(training("", precision="fp32", **config), sample_every=sample_every)
    return Prepared(asked, None, None, target, {Bucket(4, 32, 32): []}).cost()  # type: ignore[arg-type]


def test_on_a_gpu_all_is_counted_that_is_there_during_an_update_or_a_sample(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = estimate(training, monkeypatch, Loaded("cuda"))
    state = 100 * 5 * 4
    assert found.memory_bytes == memory.PROCESS + (4 + 3) * GIB + state
    assert found.free_bytes == 11 * GIB
    sampled = estimate(training, monkeypatch, Loaded("cuda"), sample_every=100)
    assert sampled.memory_bytes == memory.PROCESS + (4 + 6) * GIB + state
    offloaded = estimate(training, monkeypatch, Loaded("cuda"), offload=True)
    assert offloaded.memory_bytes - found.memory_bytes == (10 * 20 + 20) * 4, "the largest block is moved there"


def test_on_a_processor_networks_are_counted_and_nothing_is_released(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda device, processes: 5 * GIB)
    target = Loaded("cpu")
    found = estimate(training, monkeypatch, target, sample_every=100)
    assert found.memory_bytes == memory.PROCESS + 110 * 4 + 100 * 5 * 4 + 3 * GIB
    assert found.free_bytes == 5 * GIB and target.used == 10 * GIB


def test_examples_stay_in_the_host_memory(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device, processes: 5 * GIB)
    none = [estimate(training, monkeypatch, Loaded(device)).memory_bytes for device in ("cpu", "cuda")]
    monkeypatch.setattr("flickbook.learn.tuning.tune.size", lambda *_: 2 * GIB)
    host, gpu = (estimate(training, monkeypatch, Loaded(device)) for device in ("cpu", "cuda"))
    assert host.examples_bytes == gpu.examples_bytes == 2 * GIB
    assert [host.memory_bytes, gpu.memory_bytes] == [none[0] + 2 * GIB, none[1]]


@pytest.mark.slow
def test_more_examples_than_the_host_has_memory_are_refused(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = training("")
    prepared = prepare(lora)
    monkeypatch.setattr(Prepared, "cost", lambda *_: cost.Cost(0, GIB, 0, 0, examples_bytes=3 * GIB))
    monkeypatch.setattr(memory, "free", lambda *_: 2 * GIB)
    with pytest.raises(RequestError, match=r"dir=.*about 3\.0 GiB of memory.*use fewer clips"):
        tune(prepared)
    assert not lora.output.exists()


@pytest.mark.slow
def test_a_short_update_is_measured(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(training("", iterations=30))
    monkeypatch.setattr(cost, "matmul_rate", lambda *_, **__: 1e9)
    estimated = prepared.cost().seconds
    monkeypatch.setattr("flickbook.learn.tuning.tune.seconds", lambda *_: 2.0)
    assert prepared.cost(measure_below=estimated / 31).seconds == estimated != 60.0
    assert prepared.cost(measure_below=estimated / 29).seconds == 60.0


@pytest.mark.slow
def test_measuring_an_update_leaves_the_networks_as_they_are(training: Make, tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("a cat\n", encoding="utf-8")
    prepared = prepare(replace(training("ms", prior=2), prior_prompts=tmp_path / "known.txt"))
    parameters = list(prepared.target.networks["unet"].parameters())
    before = [each.detach().clone() for each in parameters]
    assert prepared.cost(measure_below=1e9).seconds > 0
    assert all(each.grad is None and torch.equal(each, old) for each, old in zip(parameters, before, strict=True))
