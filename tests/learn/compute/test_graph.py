"""An update that a GPU runs as one graph; here without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flickbook.learn.compute.graph import Graphed


def test_without_a_gpu_the_function_is_called_as_it_is() -> None:
    weight = torch.zeros(())

    def add(x: torch.Tensor) -> tuple[torch.Tensor]:
        weight.add_(x.sum())
        return (weight.clone(),)

    update = Graphed(add)
    assert [float(update(torch.ones(count))[0]) for count in (1, 2, 2, 2, 2)] == [1, 3, 5, 7, 9]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_of_two_shapes_learn_what_single_calls_learn() -> None:
    """Twelve updates of one network with inputs of two shapes in turn."""
    found = []
    for kind in (Graphed, lambda function: function):
        torch.manual_seed(0)
        network = nn.Linear(4, 4).cuda()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

        def learn(
            x: torch.Tensor, network: nn.Module = network, optimizer: torch.optim.SGD = optimizer
        ) -> tuple[torch.Tensor]:
            optimizer.zero_grad(set_to_none=True)
            loss = network(x).square().mean()
            loss.backward()
            optimizer.step()
            return (loss.detach(),)

        update = kind(learn)
        inputs = [torch.randn(2 + number % 2, 4, device="cuda") for number in range(12)]
        losses = [float(update(x)[0]) for x in inputs]
        found.append((losses, network.weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])
