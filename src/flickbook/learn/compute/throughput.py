"""How much of the machine a training uses: its floating-point operations beside those of the best matrix product.

A step of a small network is only partly matrix products; norms, activations and copies take the rest. The share tells
how much faster the same step could be at most on this machine.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flickbook.learn.compute.precision import fastest

#: A product that is large enough to reach the full rate and small enough to stay in the caches.
_ROWS, _WIDTH = 2048, 1024
#: Seconds after which no further product is timed: a processor without instructions for a precision is slow.
_PATIENCE = 2.0


def matmul_rate(device: torch.device, rounds: int = 5, dtype: torch.dtype | None = None) -> float:
    """Floating-point operations a second of a (2048, 1024) x (1024, 1024) product, the best of `rounds`.

    The product is computed in `dtype`; None: in the fastest precision of the device.
    """
    dtype = dtype or fastest(device.type)
    left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
    right = torch.ones(_WIDTH, _WIDTH, dtype=dtype, device=device)
    torch.mm(left, right)  # the first product of a shape prepares its kernel
    best, first = float("inf"), time.perf_counter()
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
        if time.perf_counter() - first > _PATIENCE:
            break
    return 2 * _ROWS * _WIDTH**2 / best


class Throughput:
    """Relates the operations of a network's steps to the time that they take.

    Operations are counted on shapes alone, without computing, so that a training's numbers stay what they are.
    `latent` is (channels, height, width) of a frame's latents, `tokens` the length of a prompt.
    """

    def __init__(self, network: nn.Module, latent: tuple[int, int, int], tokens: int, device: torch.device) -> None:
        self.device, self._network, self._latent, self._tokens = device, network, latent, tokens
        self._counted: dict[tuple[int, int], float] = {}
        self._rate = 0.0

    def operations(self, clips: int, frames: int) -> float:
        """Floating-point operations of the forward and the backward pass over `clips` clips of `frames` frames."""
        if (clips, frames) not in self._counted:
            shapes = copy.deepcopy(self._network).to("meta")
            channels, height, width = self._latent
            x = torch.empty(clips, channels, frames, height, width, device="meta")
            step = torch.empty(clips, dtype=torch.long, device="meta")
            ids = torch.empty(clips, self._tokens, dtype=torch.long, device="meta")
            with FlopCounterMode(display=False) as counter:
                shapes(x, step, ids).sum().backward()
            self._counted[clips, frames] = float(counter.get_total_flops())
        return self._counted[clips, frames]

    def share(self, steps: Iterable[tuple[int, int]], seconds: float) -> float:
        """The operations of steps of (clips, frames) as a share of what matrix products could do in `seconds`."""
        self._rate = self._rate or matmul_rate(self.device)
        return sum(self.operations(*step) for step in steps) / (seconds * self._rate)
