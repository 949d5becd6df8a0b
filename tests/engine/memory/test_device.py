"""What this machine decides."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import torch

from flickbook.engine.memory import device
from flickbook.spec import Placement


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of threads, given back after the test."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_unavailable_device_falls_back_to_the_cpu() -> None:
    requested = Placement(device="cuda", dtype="float16", offload="model", decode_frames=16)
    assert device.confirmed(requested) == Placement(device="cpu", dtype="bfloat16", decode_frames=2)
    assert device.confirmed(Placement(dtype="bfloat16", tiling=True)) == Placement(dtype="bfloat16", tiling=True)


def test_the_requested_number_of_threads_is_set(threads: int) -> None:
    assert device.confirmed(Placement(), threads + 1) == device.confirmed(Placement())
    assert torch.get_num_threads() == threads + 1


def test_the_cpu_name_is_one_line() -> None:
    name = device.device_name("cpu")
    assert name and name == name.strip() and "\n" not in name


def test_versions_are_those_of_the_running_libraries() -> None:
    found = device.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch") and found["numpy"] == version("numpy")
    assert set(found) <= {"python", "flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow"}
    assert device.versions() == found


def test_peak_memory_counts_this_process_only() -> None:
    """What was held and let go counts; what the process that started this one holds does not."""
    held = bytearray(400 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    program = """
import psutil
from flickbook.engine.memory.device import peak_memory
part = bytearray(100 << 20)
part[:: 1 << 12] = b"x" * len(part[:: 1 << 12])
del part
print(peak_memory() >> 20, psutil.Process().memory_info().rss >> 20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    peak, now = map(int, done.stdout.split())
    assert now + 90 <= peak < 400
    assert device.peak_memory() >= 400 << 20
