"""The machine a film is planned for."""

from __future__ import annotations

from flickbook.engine.memory.machine import Machine


def test_here_describes_this_machine() -> None:
    here = Machine.here()
    assert 0 < here.memory_free <= here.memory_total and here.cores >= 1 and here.disk_free > 0
    assert here.device_name and here.to_dict()["device"] == here.device
    assert (here.gpu_total > 0) == (here.device == "cuda")
