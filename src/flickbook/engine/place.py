"""What this machine decides: device, precision, threads, and its own name."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from flickbook.catalogue import Model
from flickbook.errors import RequestError
from flickbook.spec import Placement

#: Libraries that can change a pixel.
_LIBRARIES = ("flickbook", "torch", "numpy", "tokenizers", "safetensors", "av", "pillow")


#: What people call a precision -> what torch calls it. The last two are those of the weights alone.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16", "int8": "bfloat16"}
#: Billions of parameters from which a model is run in half precision unless float32 is asked for.
_LARGE = 0.5


def choose(model: Model, precision: str = "auto", threads: int | None = None) -> Placement:
    """The Placement of a model on this machine: a GPU if torch sees one, and the precision that fits both.

    "auto" is float32 for small models, whose promises are made in it, and half precision for large ones where the
    machine computes in it. Raises RequestError for a precision that is unknown or that this machine lacks.
    """
    import torch

    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if precision not in ("auto", *PRECISIONS):
        limit = f"must be auto or one of {', '.join(PRECISIONS)}"
        raise RequestError("precision", precision, limit, "leave it out for auto")
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if precision == "auto":
        precision = _automatic(model, device)
    if precision == "fp16" and device == "cpu":
        raise RequestError("precision", precision, "needs a GPU", "ask for bf16 or fp32")
    quantized = precision if precision in ("fp8", "int8") else ""
    if quantized:
        _check_quantized(precision, device)
    return Placement.of(device=device, dtype=PRECISIONS[precision], quantize=quantized)


def _automatic(model: Model, device: str) -> str:
    """ "fp32", "bf16" or "fp16"."""
    import torch

    if model.parameters < _LARGE:
        return "fp32"
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "mps":
        return "fp16"
    return "bf16" if _knows_bf16() else "fp32"


def _knows_bf16() -> bool:
    """Whether the processor multiplies in bfloat16."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine() == "arm64"
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "avx_ne_convert", " bf16"))


def _check_quantized(precision: str, device: str) -> None:
    if find_spec("torchao") is None:
        raise RequestError("precision", precision, "needs the package torchao", "ask for bf16, or install torchao")
    if precision == "fp8":
        import torch

        if device != "cuda" or torch.cuda.get_device_capability() < (8, 9):
            raise RequestError("precision", precision, "needs a GPU of 2022 or later", "ask for int8 or bf16")


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
