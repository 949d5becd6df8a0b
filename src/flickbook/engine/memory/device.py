"""Properties of this machine that affect a film: device, precision, threads, library versions and processor name."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from flickbook.spec import Placement

#: Libraries that can affect a pixel of any film.
_LIBRARIES = ("flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow")

#: On Linux: the file with this process's memory use, and the file that resets its peak when 5 is written (proc(5)).
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

#: Precision names of users -> those of torch. The last two apply to weights alone.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16", "int8": "bfloat16"}


def confirmed(placement: Placement, threads: int | None = None) -> Placement:
    """Confirm a placement that was chosen without torch against the devices that torch has, and set torch's threads."""
    import torch

    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return placement if placement.device != "mps" else placement.model_copy(update={"device": "cuda"})
    if placement.device == "mps" and torch.backends.mps.is_available():
        return placement
    return on_processor(placement)


def at_once(device: str) -> int:
    """Frames decoded at once if memory allows. On a CPU more frames save no time per frame, and take more memory."""
    return 2 if device == "cpu" else 16


def on_processor(placement: Placement) -> Placement:
    """Change a placement to the CPU, in a precision that it supports."""
    changes: dict[str, object] = {"device": "cpu", "offload": "none"}
    changes["decode_frames"] = min(placement.decode_frames, at_once("cpu"))
    # Of the half precisions only bfloat16 has kernels on every CPU, and of the eight-bit types only int8.
    changes["dtype"] = "bfloat16" if placement.dtype == "float16" else placement.dtype
    changes["quantize"] = "" if placement.quantize == "fp8" else placement.quantize
    return placement.model_copy(update=changes)


def peak_memory() -> int:
    """The peak memory of this process since `forget_peak`, in bytes; its current memory where no peak is available."""
    try:
        # Not getrusage: on Linux its peak includes the parent process before exec.
        status = _STATUS.read_text(encoding="ascii", errors="replace")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if platform.system() == "Darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Reset this process's peak memory, where the system allows it."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def device_name(device: str) -> str:
    """The name of the GPU or CPU model."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(more: Sequence[str] = ()) -> dict[str, str]:
    """The versions of Python and of each library that can affect a pixel, including those in `more`."""
    found = {"python": platform.python_version()}
    for name in (*_LIBRARIES, *more):
        if (version := _version(name)) is not None:
            found[name] = version
    return found


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):  # a source tree that was never installed, or an empty name
        return None


def kernels(device: str) -> dict[str, str]:
    """What affects the last bits of a sum on this machine, in addition to library versions."""
    import torch

    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(device)
        cudnn: Any = torch.backends.cudnn
        found = {"cuda": str(torch.version.cuda), "cudnn": str(cudnn.version())}
        return found | {"capability": f"{major}.{minor}", "tf32": _yes(torch.backends.cuda.matmul.allow_tf32)}
    if device != "cpu":
        return {}
    from flickbook.diffusion.pack import available

    vectors = torch.backends.cpu.get_cpu_capability()
    onednn = _yes(torch._C._get_mkldnn_enabled())
    found = {"threads": str(torch.get_num_threads()), "vectors": vectors, "onednn": onednn}
    return found | {"packed": _yes(available()), "attention": "fused"}


def completed(kernels: Mapping[str, str], family: str) -> dict[str, str]:
    """Recorded kernels with what earlier versions did not name: their own networks' attention on a CPU."""
    unnamed = {"attention": "products"} if family == "unet" and "packed" in kernels else {}
    return {**unnamed, **kernels}


@contextmanager
def threads(count: str | None) -> Iterator[None]:
    """Set torch's threads to a Recipe's number within the block: they decide the order in which sums are rounded."""
    import torch

    before = torch.get_num_threads()
    if count is not None and count.isdecimal() and len(count) < 5:
        torch.set_num_threads(min(max(1, int(count)), os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
