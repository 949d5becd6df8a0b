"""What this machine decides: device, precision, threads, and its own name."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from flickbook.spec import Placement

#: Libraries that can change a pixel.
_LIBRARIES = ("flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow")

#: Where Linux says what a process holds, and where 5 makes it forget the most it ever held (proc(5)).
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

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
    return on_processor(placement)


def at_once(device: str) -> int:
    """Frames decoded at once where memory allows it: a processor takes as long for each of more, and more memory."""
    return 2 if device == "cpu" else 16


def on_processor(placement: Placement) -> Placement:
    """A placement brought to the processor, in what it computes in."""
    changes: dict[str, object] = {"device": "cpu", "offload": "none"}
    changes["decode_frames"] = min(placement.decode_frames, at_once("cpu"))
    # Of half precisions only bfloat16 has kernels on every processor, and of eight bits only whole numbers.
    changes["dtype"] = "bfloat16" if placement.dtype == "float16" else placement.dtype
    changes["quantize"] = "" if placement.quantize == "fp8" else placement.quantize
    return placement.model_copy(update=changes)


def peak_memory() -> int:
    """The most memory this process held since `forget_peak`, bytes; what it holds now where no system says."""
    try:
        # Not getrusage: on Linux its peak also counts the process that started this one.
        status = _STATUS.read_text(encoding="ascii", errors="replace")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if platform.system() == "Darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Count this process's peak memory from now on, where the system allows it."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


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
        if (told := _version(name)) is not None:
            found[name] = told
    return found


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):  # a source tree that was never installed, or no name at all
        return None


def kernels(device: str) -> dict[str, str]:
    """What decides the last bits of a sum on this machine, beside the libraries' versions."""
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
    return {"threads": str(torch.get_num_threads()), "vectors": vectors, "onednn": onednn, "packed": _yes(available())}


@contextmanager
def threads(count: str | None) -> Iterator[None]:
    """Let torch use as many threads as a recipe says meanwhile: sums are rounded in their order."""
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
