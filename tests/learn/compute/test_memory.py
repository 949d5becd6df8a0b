"""The memory of a training, counted before it starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flickbook.errors import RequestError
from flickbook.learn.compute import memory


def test_activations_are_counted_on_shapes_alone() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid())
    # A layer keeps its input for the gradient of its weights, a sigmoid its output.
    assert memory.activations(network, lambda shapes: shapes(torch.empty(10, 4, device="meta"))) == 10 * (4 + 8) * 4
    assert next(network.parameters()).device.type == "cpu"


def test_required_memory_grows_with_weights_and_averages() -> None:
    base = memory.required(1_000_000, 0, 0)
    assert memory.required(1_000_000, 2, 0) - base == 2 * 4_000_000
    assert memory.required(1_000_000, 0, 500, others=7) - base == 507


def test_a_training_beyond_the_free_memory_is_refused() -> None:
    memory.refuse_beyond(2**30, 2**30, "batch", 8, "lower it")
    limit = "batch=8: the training needs about 3.0 GiB of memory, and 1.0 GiB are free; lower it"
    with pytest.raises(RequestError, match=limit):
        memory.refuse_beyond(3 * 2**30, 2**30, "batch", 8, "lower it")
