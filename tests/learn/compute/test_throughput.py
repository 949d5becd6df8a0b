"""The share of the machine that a training uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flickbook.learn.compute.throughput import Throughput, matmul_rate

CPU = torch.device("cpu")


class Product(nn.Module):
    """One product of 8 columns with an (8, 8) matrix for each position of the latents."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        return self.matrix(x.movedim(1, -1))  # type: ignore[no-any-return]


def test_operations_are_those_of_both_passes() -> None:
    found = Throughput(Product(), (8, 4, 4), 6, CPU)
    forward = 2 * 8 * 8 * (3 * 2 * 16)  # 3 clips of 2 frames of 16 positions
    assert found.operations(3, 2) == 2 * forward, "the input needs no gradient"


def test_the_share_is_of_what_the_best_product_could_do() -> None:
    found = Throughput(Product(), (8, 4, 4), 6, CPU)
    once = found.share([(3, 2)], 1.0)
    assert found.share([(3, 2), (3, 2)], 0.5) == pytest.approx(4 * once)
    assert matmul_rate(CPU, rounds=1) > 1e8
