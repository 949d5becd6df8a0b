"""The precision in which a training computes: bfloat16 where the device computes in it, float32 elsewhere.

PyTorch accepts bfloat16 on every processor. Without instructions for it a matrix product takes many times as long as in
float32, so a training that always asks for it would seem to hang on such a machine.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def fastest(kind: str) -> torch.dtype:
    """bfloat16 or float32, for a type of device: `cpu`, `cuda`, `mps`."""
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind != "cpu":
        return torch.float32
    from flickbook.engine.memory.machine import knows_bf16  # the training loop alone runs on a GPU without its packages

    return torch.bfloat16 if knows_bf16() else torch.float32


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """A context in which the operations that tolerate it compute in `dtype`; None: in the fastest one."""
    dtype = dtype or fastest(device.type)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
