"""An update that a GPU runs as one graph; here without a GPU."""

from __future__ import annotations

import torch

from flickbook.learn.compute.graph import Graphed


def test_without_a_gpu_the_function_is_called_as_it_is() -> None:
    weight = torch.zeros(())

    def add(x: torch.Tensor) -> tuple[torch.Tensor]:
        weight.add_(x.sum())
        return (weight.clone(),)

    update = Graphed(add)
    assert [float(update(torch.ones(count))[0]) for count in (1, 2, 2, 2, 2)] == [1, 3, 5, 7, 9]
