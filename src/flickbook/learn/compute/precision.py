"""The precision in which a training computes: bfloat16 where the device computes in it, float32 elsewhere.

PyTorch accepts bfloat16 on every processor. On one without instructions for bfloat16, a matrix product takes many times
as long as in float32.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def fastest(kind: str) -> torch.dtype:
    """The faster of bfloat16 and float32 on a type of device: `cpu`, `cuda`, `mps`."""
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind != "cpu":
        return torch.float32
    from flickbook.engine.memory.machine import knows_bf16  # needs psutil, which a training on a GPU does not

    return torch.bfloat16 if knows_bf16() else torch.float32


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """A context in which operations that tolerate a lower precision compute in `dtype`; None: in the fastest one."""
    dtype = dtype or fastest(device.type)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
