"""Gradients of several processes that train together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def average(parameters: Iterable[nn.Parameter], accelerator: Any) -> None:
    """Give each parameter the mean of its gradients in all processes of an `accelerate.Accelerator`; without one, or in
    a single process, nothing changes. A missing gradient counts as 0."""
    if accelerator is None or accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad = accelerator.reduce(parameter.grad, "mean")
