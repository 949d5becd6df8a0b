"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

Every direction of a weight matrix then learns at one speed, where Adam follows the few loudest. Convolutions count as
matrices (out, in * taps). Norms, biases, embeddings and the first and last layers stay with AdamW, in this optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from flickbook.learn.compute.precision import fastest

#: Coefficients of the quintic iteration, chosen by its authors for the steepest start.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """(n, rows, columns) -> the nearest with singular values near 1, by Newton-Schulz iteration.

    It computes in the fastest precision of the device.
    """
    x: Tensor = matrices.to(fastest(matrices.device.type))
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for the parameters of groups marked `matrix`, AdamW for the others; one `lr` for each group.

    `lr` may be a tensor of no dimensions on the parameters' device: then a CUDA graph can hold the update.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(list(groups), {"lr": 0.0, "betas": betas, "weight_decay": weight_decay, "matrix": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one update; `closure` is part of torch's signature and is not used."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["matrix"] else self._adam)(parameters, group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 0.05)
        ahead = torch._foreach_lerp(gradients, momenta, 0.95)
        # Matrices of one shape go through the iteration together: hundreds of small products are mostly overhead.
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, each in enumerate(ahead):
            shapes.setdefault(tuple(each.flatten(1).shape), []).append(i)
        for shape, places in shapes.items():
            updates = orthogonal(torch.stack([ahead[i].flatten(1) for i in places]))
            # An update of the same size for each weight as Adam's, so that both can share a learning rate.
            updates = updates * (0.2 * max(shape) ** 0.5 * group["lr"])
            chosen = [parameters[i] for i in places]
            changes = [update.view_as(parameter) for update, parameter in zip(updates, chosen, strict=True)]
            torch._foreach_sub_(chosen, changes)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                empty = {name: torch.zeros_like(parameter) for name in ("first", "second")}
                self.state[parameter] |= {**empty, "count": torch.zeros((), device=parameter.device)}
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        states = [self.state[parameter] for parameter in parameters]
        first, second, count = ([state[name] for state in states] for name in ("first", "second", "count"))
        fast, slow = group["betas"]
        torch._foreach_add_(count, 1)
        torch._foreach_lerp_(first, gradients, 1 - fast)
        torch._foreach_lerp_(second, torch._foreach_mul(gradients, gradients), 1 - slow)
        counts = torch.stack(count)
        spread = torch._foreach_div(second, list((1 - slow**counts).unbind()))
        torch._foreach_sqrt_(spread)
        torch._foreach_add_(spread, 1e-8)
        change = torch._foreach_div(first, spread)
        torch._foreach_mul_(change, list((group["lr"] / (1 - fast**counts)).unbind()))
        torch._foreach_sub_(parameters, change)


def groups_of(network: nn.Module, outer: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Matrices for Muon, the rest for AdamW; `outer` names the first and last layers by the start of their keys."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        inner = parameter.ndim >= 2 and "embedding" not in name and not name.startswith(outer)
        (matrices if inner else others).append(parameter)
    return [{"params": matrices, "matrix": True}, {"params": others, "matrix": False}]
