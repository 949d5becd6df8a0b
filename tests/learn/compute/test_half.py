"""A copy in bfloat16 that computes for a float32 network."""

from __future__ import annotations

import torch
from torch import nn

from flickbook.learn.compute.half import HalfCopy


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.unused = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        return self.conv(x)[:, place]  # type: ignore[no-any-return]


def test_it_computes_with_the_newest_weights_and_returns_float32_gradients() -> None:
    torch.manual_seed(0)
    network, x, place = Network(), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    half = HalfCopy(network)
    with torch.no_grad():
        network.conv.weight.mul_(2)
    half.refresh()
    found = half(x, place)
    assert found.dtype == torch.bfloat16 and network.conv.weight.dtype == torch.float32
    torch.testing.assert_close(found.float(), network(x, place), rtol=0.03, atol=0.03)

    network(x, place).square().sum().backward()
    expected = network.conv.weight.grad
    assert expected is not None
    network.zero_grad(set_to_none=True)
    found.float().square().sum().backward()
    half.collect()
    gradient = network.conv.weight.grad
    assert gradient is not None and gradient.dtype == torch.float32 and network.unused.weight.grad is None
    assert float((gradient - expected).norm() / expected.norm()) < 0.02


def test_gradients_of_two_updates_do_not_add_up() -> None:
    network, x, place = Network(), torch.ones(1, 3, 4, 4), torch.tensor([0])
    half, found = HalfCopy(network), []
    for _ in range(2):
        half.refresh()
        half(x, place).float().sum().backward()
        half.collect()
        assert network.conv.weight.grad is not None
        found.append(network.conv.weight.grad.clone())
    assert torch.equal(found[0], found[1])
