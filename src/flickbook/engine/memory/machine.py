"""Detects the machine that a film is planned for: its devices, and how much memory is free now. Needs no torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil

from flickbook import settings
from flickbook.engine.memory import device as place
from flickbook.files import existing

_CPUINFO, _CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
#: CPU flags for bfloat16 arithmetic; ARM's own flag is preceded by a space.
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", " bf16")
_FIRST_GPU = ["--query-gpu=name,memory.total,memory.free,compute_cap", "--format=csv,noheader,nounits"]
_SMI_SECONDS = 20
MIB = 2**20


@dataclass(frozen=True)
class Machine:
    """The resources for a film, in bytes. `memory_*` is the machine's, `gpu_*` the GPU's, 0 without one; `disk_free` is
    on the disk that stores models. `bf16`: whether `device` computes in bfloat16."""

    device: Literal["cpu", "cuda", "mps"]
    device_name: str
    memory_total: int
    memory_free: int
    gpu_total: int
    gpu_free: int
    disk_free: int
    bf16: bool
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """Detect this machine. A GPU counts if its driver lists it and the installed torch can use one."""
        memory = psutil.virtual_memory()
        total, free = _limited(memory.total, memory.available)
        # Containers and `taskset` can allow fewer cores than the machine has.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared: dict[str, Any] = {"memory_total": total, "memory_free": free, "disk_free": _disk(), "cores": cores}
        gpu = _nvidia()
        if gpu is not None:
            name, gpu_total, gpu_free, bf16 = gpu
            return cls(device="cuda", device_name=name, gpu_total=gpu_total, gpu_free=gpu_free, bf16=bf16, **shared)
        shared |= {"device_name": place.device_name("cpu"), "gpu_total": 0, "gpu_free": 0}
        if platform.system() == "Darwin" and platform.machine() == "arm64":
            return cls(device="mps", bf16=False, **shared)
        return cls(device="cpu", bf16=knows_bf16(), **shared)

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _limited(total: int, free: int) -> tuple[int, int]:
    """Total and free memory, reduced to a container's limit if there is one."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        counts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        # Unused pages of the file cache are reclaimed when memory is needed.
        spare = int(counts.get("inactive_file", 0))
    except (OSError, ValueError):  # no cgroup, or no limit: "max"
        return total, free
    return min(total, limit), max(0, min(free, limit - used + spare))


def _nvidia() -> tuple[str, int, int, bool] | None:
    """Name, memory, free memory and bfloat16 support of the first GPU, from nvidia-smi; None without one."""
    try:
        name, total, free, capability = (each.strip() for each in _smi(*_FIRST_GPU)[0].split(","))
        # bfloat16 needs compute capability 8.0 or later.
        return name, int(total) * MIB, int(free) * MIB, float(capability) >= 8
    except (ValueError, IndexError):
        return None


def gpus() -> int:
    """The number of GPUs, from nvidia-smi; 0 if the installed torch cannot use any."""
    return sum(line.startswith("GPU ") for line in _smi("--list-gpus"))


def _smi(*arguments: str) -> list[str]:
    """The lines that nvidia-smi prints; none without it, after an error, or if the installed torch cannot use a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None or _torch_is_for_cpus():
        return []
    try:
        command = [tool, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _torch_is_for_cpus() -> bool:
    """Whether the installed torch was built without CUDA, according to its version."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def knows_bf16() -> bool:
    """Whether the processor has instructions for bfloat16, according to its flags. Without a list of flags (macOS,
    Windows) the answer is no."""
    try:
        flags = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in _BF16_FLAGS)


def _disk() -> int:
    """Free bytes on the disk to which models are downloaded."""
    try:
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE)
    except ImportError:
        folder = settings.load().data_dir
    return shutil.disk_usage(existing(folder)).free
