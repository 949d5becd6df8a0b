"""What this machine decides: device, precision, threads, and its own name."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from flickbook.spec import Placement

#: Libraries that can change a pixel.
_LIBRARIES = ("flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow")


#: What people call a precision -> what torch calls it. The last two are those of the weights alone.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16", "int8": "bfloat16"}


def confirmed(placement: Placement, threads: int | None = None) -> Placement:
    """A placement that was chosen without torch, on a device that torch has; also sets the `threads` it takes."""
    import torch

    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return placement if placement.device != "mps" else placement.model_copy(update={"device": "cuda"})
    if placement.device == "mps" and torch.backends.mps.is_available():
        return placement
    # Of half precisions only bfloat16 has kernels on every processor.
    dtype = "bfloat16" if placement.dtype == "float16" else placement.dtype
    quantize = "" if placement.quantize == "fp8" else placement.quantize
    return placement.model_copy(update={"device": "cpu", "dtype": dtype, "offload": "none", "quantize": quantize})


def peak_memory() -> int:
    """The most memory this process ever held, bytes; where the system does not say, what it holds now."""
    try:
        # Not getrusage: on Linux its peak also counts the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if platform.system() == "Darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(psutil.Process().memory_info().rss)


def device_name(device: str) -> str:
    """The processor's own name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(more: Sequence[str] = ()) -> dict[str, str]:
    """Version of each library that can change a pixel, those of `more` included, and of Python."""
    found = {"python": platform.python_version()}
    for name in (*_LIBRARIES, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree that was never installed
            continue
    return found
