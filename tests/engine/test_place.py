"""What this machine decides."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import torch

from flickbook.catalogue import find
from flickbook.engine import place
from flickbook.errors import RequestError


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of threads, given back after the test."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_the_placement_is_of_this_machine(threads: int) -> None:
    found = place.choose(find("builtin"))
    assert found.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.dtype == "float32"
    assert torch.get_num_threads() == threads


def test_threads_are_set_when_asked(threads: int) -> None:
    model = find("builtin")
    assert place.choose(model, threads=threads + 1) == place.choose(model)
    assert torch.get_num_threads() == threads + 1


def test_the_processor_has_a_name_of_one_line() -> None:
    name = place.device_name("cpu")
    assert name and name == name.strip() and "\n" not in name


def test_versions_are_those_that_run() -> None:
    found = place.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch") and found["numpy"] == version("numpy")
    assert set(found) <= {"python", "flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow"}
    assert place.versions() == found


def test_the_peak_is_that_of_this_process_alone() -> None:
    """What was held and let go counts; what the process that started this one holds does not."""
    held = bytearray(400 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    program = """
import psutil
from flickbook.engine.place import peak_memory
part = bytearray(100 << 20)
part[:: 1 << 12] = b"x" * len(part[:: 1 << 12])
del part
print(peak_memory() >> 20, psutil.Process().memory_info().rss >> 20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    peak, now = map(int, done.stdout.split())
    assert now + 90 <= peak < 400
    assert place.peak_memory() >= 400 << 20


def test_a_small_model_runs_in_float32_and_a_large_one_in_half_where_the_machine_can() -> None:
    large = place.choose(find("text-to-video-ms-1.7b")).dtype
    assert place.choose(find("builtin")).dtype == "float32"
    assert large in ("float32", "bfloat16", "float16")
    assert place.choose(find("text-to-video-ms-1.7b"), "fp32").dtype == "float32"
    assert place.choose(find("builtin"), "bf16").dtype == "bfloat16"


@pytest.mark.parametrize("precision", ["", "fp64", "BF16", "float32"])
def test_a_precision_that_is_none_is_refused(precision: str) -> None:
    with pytest.raises(RequestError, match="precision=.*must be auto or one of fp32, bf16, fp16, fp8, int8"):
        place.choose(find("builtin"), precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_a_precision_this_machine_lacks_is_refused(precision: str) -> None:
    with pytest.raises(RequestError, match=f"precision={precision}: needs"):
        place.choose(find("builtin"), precision)
