"""Memory of a training: blocks of a network that are recomputed in the backward pass, or wait in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Sequence[nn.Module], device: torch.device | None = None) -> None:
    """Keep only the inputs of these blocks for the backward pass, which computes the rest again (Chen et al. 2016,
    arXiv 1604.06174).

    With `device` the weights of each block stay where they are, and are copied to the device while the block runs:
    only one block's weights are there at a time.
    """
    for block in blocks:
        block.forward = _Recomputed(block, device)


def place_outside(network: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Move the weights of a network that are in none of these blocks to a device."""
    inside = {id(each) for block in blocks for each in (*block.parameters(), *block.buffers())}
    for each in (*network.parameters(), *network.buffers()):
        if id(each) not in inside:
            each.data = each.data.to(device)


class _Recomputed:
    """The forward method of a block, run again in the backward pass."""

    def __init__(self, block: nn.Module, device: torch.device | None) -> None:
        self._block, self._device, self._forward, self._inside = block, device, block.forward, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return self._forward(*args, **kwargs)
        if not torch.is_grad_enabled():
            return self._run(*args, **kwargs)
        return checkpoint(self._run, *args, use_reentrant=False, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        if self._device is None:
            return self._forward(*args, **kwargs)
        held = {**dict(self._block.named_parameters()), **dict(self._block.named_buffers())}
        self._inside = True
        try:
            moved = {name: each.to(self._device, non_blocking=True) for name, each in held.items()}
            return functional_call(self._block, moved, args, kwargs)
        finally:
            self._inside = False
