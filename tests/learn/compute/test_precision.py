"""The precision of a training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flickbook.engine.memory import machine
from flickbook.learn.compute.precision import autocast, fastest
from flickbook.learn.tuning.target import usual_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    fastest.cache_clear()
    yield
    fastest.cache_clear()


@pytest.mark.parametrize(("knows", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_without_bfloat16_trains_in_float32(
    monkeypatch: pytest.MonkeyPatch, knows: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(machine, "knows_bf16", lambda: knows)
    with autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert usual_precision(CPU) == ("bf16" if knows else "fp32")


def test_a_gpu_without_bfloat16_tunes_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert fastest("cuda") == torch.float32
    assert usual_precision(torch.device("cuda")) == "fp16"
