"""Attention by relative positions, against the formula and against attention without them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flickbook.diffusion.attention import RelativeAttention, RelativePosition
from flickbook.diffusion.pack import PackedLinear, available, pack
from flickbook.diffusion.unet3d import TemporalTransformer, UNet3D, UNet3DConfig

SMALL: dict[str, Any] = {
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 16,
    "relative_positions": 3,
    "temporal_convs": False,
}


def awake(network: Any) -> Any:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def by_the_formula(attention: RelativeAttention, x: Tensor, reach: int) -> Tensor:
    """One sequence (tokens, channels), one pair of tokens at a time (Shaw et al. 2018, equations 3 to 5)."""
    weights = {name: value.double() for name, value in attention.state_dict().items()}
    x, count, width = x.double(), x.shape[0], attention.head_dim
    heads = []
    for head in range(attention.heads):
        rows = slice(head * width, (head + 1) * width)
        q, k, v = (x @ weights[f"to_{name}.weight"][rows].T for name in "qkv")
        outputs = []
        for i in range(count):
            place = [min(max(j - i, -reach), reach) + reach for j in range(count)]
            near_k, near_v = (weights[f"relative_position_{name}.embeddings_table"] for name in "kv")
            scores = [float(q[i] @ (k[j] + near_k[place[j]])) / math.sqrt(width) for j in range(count)]
            total = sum(math.exp(score) for score in scores)
            shares = [math.exp(score) / total for score in scores]
            outputs.append(sum((shares[j] * (v[j] + near_v[place[j]]) for j in range(count)), torch.zeros(width)))
        heads.append(torch.stack(outputs))
    joined: Tensor = torch.cat(heads, dim=1) @ weights["to_out.0.weight"].T + weights["to_out.0.bias"]
    return joined


@pytest.mark.parametrize("frames", [1, 3, 4, 11])
def test_attention_is_that_of_the_formula(frames: int) -> None:
    """The longest film has distances that the tables, which reach 3 frames, count as 3."""
    torch.manual_seed(0)
    attention = awake(RelativeAttention(12, heads=2, head_dim=8, reach=3))
    x = torch.randn(2, 5, frames, 12)
    with torch.no_grad():
        found = attention(x)
    assert found.shape == x.shape
    for film in range(2):
        for pixel in range(5):
            expected = by_the_formula(attention, x[film, pixel], 3)
            assert torch.allclose(found[film, pixel].double(), expected, atol=1e-5)


def test_distances_beyond_the_table_are_its_ends() -> None:
    table = RelativePosition(16, 8)
    with torch.no_grad():
        far = table(40)
    rows = table.embeddings_table
    assert rows.shape == (33, 8) and far.shape == (40, 40, 8)
    assert torch.equal(far[0, 15], rows[31]) and torch.equal(far[7, 7], rows[16]) and torch.equal(far[20, 4], rows[0])
    assert torch.equal(far[0, 17:], rows[32:].expand(23, 8)) and torch.equal(far[39, 0], rows[0])


def test_with_empty_tables_it_is_the_transformer_without() -> None:
    torch.manual_seed(0)
    placed = awake(TemporalTransformer(32, 2, 16, 8, frame_positions=False, reach=4))
    plain = TemporalTransformer(32, 2, 16, 8, frame_positions=False).eval()
    tables = {key for key in placed.state_dict() if key.endswith("embeddings_table")}
    assert len(tables) == 4
    plain.load_state_dict({key: value for key, value in placed.state_dict().items() if key not in tables})
    x = torch.randn(12, 32, 4, 4)
    with torch.no_grad():
        assert not torch.allclose(placed(x, 6), plain(x, 6), atol=1e-2)
        for key in tables:
            placed.get_parameter(key).zero_()
        assert torch.allclose(placed(x, 6), plain(x, 6), atol=1e-5)


def test_a_network_without_temporal_convolutions() -> None:
    torch.manual_seed(0)
    network = awake(UNet3D(UNet3DConfig.from_dict(SMALL)))
    assert not any("temp_convs" in key for key in network.state_dict())
    tables = [key for key in network.state_dict() if key.endswith("embeddings_table")]
    temporal = [module for module in network.modules() if isinstance(module, TemporalTransformer)]
    assert len(tables) == 4 * len(temporal) and "transformer_in" in tables[0]
    x, context, time = torch.randn(1, 4, 9, 8, 8), torch.randn(1, 7, 24), torch.tensor(500)
    with torch.no_grad():
        film = network(x, time, context)
        assert film.shape == x.shape and film.isfinite().all()
        # Frames reach one another through attention alone, and it tells their order.
        assert not torch.allclose(network(x.flip(2), time, context).flip(2), film, atol=1e-3)
        half = network.bfloat16()(x.bfloat16(), time, context.bfloat16()).float()
    assert float((half - film).abs().max() / film.abs().max()) <= 0.05


@pytest.mark.skipif(not available(), reason="this PyTorch cannot lay weights out")
def test_packed_it_keeps_its_tables() -> None:
    torch.manual_seed(0)
    network = awake(UNet3D(UNet3DConfig.from_dict(SMALL)))
    x, context, time = torch.randn(1, 4, 5, 8, 8), torch.randn(1, 7, 24), torch.tensor(500)
    with torch.inference_mode():
        expected = network(x, time, context)
        pack(network)
        found = network(x, time, context)
    kinds = {type(module) for module in network.modules()}
    assert PackedLinear in kinds and RelativeAttention in kinds and nn.Linear not in kinds
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


def test_learning_reaches_the_tables() -> None:
    torch.manual_seed(0)
    network = awake(UNet3D(UNet3DConfig.from_dict(SMALL)))
    network(torch.randn(1, 4, 5, 8, 8), torch.tensor(9), torch.randn(1, 7, 24)).square().mean().backward()
    for key, parameter in network.named_parameters():
        if key.endswith("embeddings_table"):
            assert parameter.grad is not None and parameter.grad.any(), key
