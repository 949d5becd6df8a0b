"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

Every direction of a weight matrix then learns at one speed, where Adam follows the few loudest. Convolutions count as
matrices (out, in * taps). Norms, biases, embeddings and the first and last layers stay with AdamW, in this optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from flickbook.learn.precision import fastest

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
    """Muon for the parameters of groups marked `matrix`, AdamW for the others; one `lr` for each group."""

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
            if group["matrix"]:
                self._muon(parameters, group)
            else:
                for parameter in parameters:
                    self._adam(parameter, self.state[parameter], group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        for parameter in parameters:
            self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
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
            scale = 0.2 * max(shape) ** 0.5
            for i, update in zip(places, updates, strict=True):
                parameters[i].add_(update.view_as(parameters[i]), alpha=-group["lr"] * scale)

    @staticmethod
    def _adam(parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["count"] = torch.zeros(())
        fast, slow = group["betas"]
        state["count"] += 1
        first = state["first"].lerp_(parameter.grad, 1 - fast)  # type: ignore[arg-type]
        second = state["second"].lerp_(parameter.grad.square(), 1 - slow)  # type: ignore[union-attr]
        count = float(state["count"])
        spread = (second / (1 - slow**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(first, spread, value=-group["lr"] / (1 - fast**count))


def groups_of(network: nn.Module, outer: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Matrices for Muon, the rest for AdamW; `outer` names the first and last layers by the start of their keys."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        inner = parameter.ndim >= 2 and "embedding" not in name and not name.startswith(outer)
        (matrices if inner else others).append(parameter)
    return [{"params": matrices, "matrix": True}, {"params": others, "matrix": False}]
