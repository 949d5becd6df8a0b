"""Muon: orthogonal updates for matrices, AdamW for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flickbook.learn.muon import Muon, groups_of, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (16, 48), (48, 16), (32, 288)])
def test_the_update_is_nearly_orthogonal_and_keeps_its_directions(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(torch.stack([matrix, -3 * matrix]))[0]
    assert found.shape == matrix.shape and found.dtype == matrix.dtype
    values = torch.linalg.svdvals(found)
    # The quintic brings singular values near 1 and not to it; those of a square matrix start closest to 0.
    assert values.max() < 1.3 and values.median() > 0.6
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    exact = left @ right
    assert float((found * exact).sum() / (found.norm() * exact.norm())) > 0.9


def test_the_size_of_the_gradient_does_not_matter() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(1, 12, 20)
    assert torch.allclose(orthogonal(matrix), orthogonal(1024 * matrix), atol=0.02)


def test_only_inner_matrices_are_orthogonalised() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_in, self.conv_out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)
            self.token_embedding, self.inner, self.norm = nn.Embedding(5, 4), nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4)

    network = Network()
    matrices, others = groups_of(network, ("conv_in", "conv_out"))
    assert matrices["matrix"] and not others["matrix"]
    assert [each is network.inner.weight for each in matrices["params"]] == [True]
    assert len(others["params"]) == len(list(network.parameters())) - 1


def run(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int) -> Tensor:
    for number in range(steps):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        parameter.grad = parameter.detach() * 0.5 + noise
        optimizer.step()
    return parameter.detach()


def test_the_rest_learns_as_in_torchs_adamw() -> None:
    start = torch.randn(7, generator=torch.Generator().manual_seed(9))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([{"params": [ours], "matrix": False, "lr": 0.01}], betas=(0.9, 0.99), weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    assert torch.allclose(run(muon, ours, 6), run(adamw, theirs, 6), atol=1e-6)


def test_a_matrix_moves_by_the_learning_rate() -> None:
    """0.2 of it for each weight, as Adam's updates measure, and convolutions count as matrices."""
    parameter = nn.Parameter(torch.zeros(16, 8, 3, 3))
    optimizer = Muon([{"params": [parameter], "matrix": True, "lr": 0.01}], betas=(0.9, 0.99), weight_decay=0.0)
    moved = run(optimizer, parameter, 1)
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.3)


def test_weights_decay_before_they_move() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([{"params": [parameter], "matrix": True, "lr": 0.5}], betas=(0.9, 0.99), weight_decay=0.1)
    parameter.grad = torch.zeros(4, 4)
    optimizer.step()
    assert torch.allclose(parameter, torch.full((4, 4), 0.95))


def test_a_parameter_without_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(4))
    Muon([{"params": [parameter], "matrix": False, "lr": 0.5}], betas=(0.9, 0.99), weight_decay=0.1).step()
    assert torch.equal(parameter, torch.ones(4))
