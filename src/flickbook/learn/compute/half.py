"""A bfloat16 copy of a network that runs its forward and backward pass, so that no operation converts anything.

Under `torch.autocast` each use of a weight converts it, and norms write float32, which the next layer converts back. On
a GPU these copies take as long as the products. The network itself stays in float32 for the optimizer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class HalfCopy:
    """Called like `network`, with floating-point inputs in any precision; the output is bfloat16.

    Before a call `refresh` takes over the network's weights, and after the backward pass `collect` gives it the
    gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        self.copy = copy.deepcopy(network).to(torch.bfloat16)
        for parameter in self.copy.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._pairs = list(zip(network.parameters(), self.copy.parameters(), strict=True))

    def __call__(self, *inputs: Tensor) -> Any:
        return self.copy(*(each.to(torch.bfloat16) if each.is_floating_point() else each for each in inputs))

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights."""
        own, copied = zip(*self._pairs, strict=True)
        torch._foreach_copy_(list(copied), list(own))

    @torch.no_grad()
    def collect(self) -> None:
        """Move the gradients to the network, in float32; parameters that have none get none."""
        for own, copied in self._pairs:
            own.grad = None if copied.grad is None else copied.grad.to(own.dtype, memory_format=torch.contiguous_format)
            copied.grad = None
