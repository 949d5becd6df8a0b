"""The compact network: the published keys, the published mathematics, and what a file's shapes say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flickbook.media.finishing.compact import Compact, CompactConfig


def shapes(config: CompactConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in Compact(config).state_dict().items()}


def test_keys_and_shapes_equal_the_published_files() -> None:
    found = shapes(CompactConfig())  # realesr-animevideov3
    assert len(found) == 18 * 2 + 17
    assert found["body.0.weight"] == (64, 3, 3, 3) and found["body.1.weight"] == (64,)
    assert found["body.32.weight"] == (64, 64, 3, 3) and found["body.33.weight"] == (64,)
    assert found["body.34.weight"] == (48, 64, 3, 3) and found["body.34.bias"] == (48,)
    assert "body.66.bias" in shapes(CompactConfig(convolutions=32))  # realesr-general-x4v3


@pytest.mark.parametrize("config", [CompactConfig(), CompactConfig(64, 32, 4), CompactConfig(24, 6, 2)])
def test_the_configuration_is_read_from_the_shapes(config: CompactConfig) -> None:
    assert CompactConfig.of(shapes(config)) == config


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body.0.weight": (64, 1, 3, 3)}, "takes 1"),
        ({"body.34.weight": (50, 64, 3, 3)}, "gives 50"),
        ({"body.34.weight": (48,)}, "PReLU"),
        ({"body.35.weight": (48, 64, 3, 3)}, "PReLU"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CompactConfig.of(shapes(CompactConfig()) | change)
    with pytest.raises(ValueError, match="SRVGGNetCompact"):
        CompactConfig.of({})


def test_a_network_with_zero_output_repeats_every_pixel() -> None:
    network = Compact(CompactConfig(8, 1, 3))
    for parameter in network.body[-1].parameters():
        torch.nn.init.zeros_(parameter)
    picture = torch.rand(1, 3, 5, 4)
    with torch.no_grad():
        assert torch.equal(network(picture), picture.repeat_interleave(3, 2).repeat_interleave(3, 3))


def test_the_output_equals_the_formula() -> None:
    torch.manual_seed(0)
    network, picture = Compact(CompactConfig(4, 1, 2)), torch.rand(2, 3, 6, 7)
    state = network.state_dict()
    hidden = picture
    for i in (0, 2):
        hidden = F.conv2d(hidden, state[f"body.{i}.weight"], state[f"body.{i}.bias"], padding=1)
        hidden = torch.where(hidden > 0, hidden, hidden * state[f"body.{i + 1}.weight"][:, None, None])
    hidden = F.conv2d(hidden, state["body.4.weight"], state["body.4.bias"], padding=1).numpy()
    expected = np.empty((2, 3, 12, 14), np.float32)
    for down in (0, 1):
        for across in (0, 1):  # channel 4 c + 2 down + across is the pixel at (down, across) of a square
            expected[:, :, down::2, across::2] = hidden[:, 2 * down + across :: 4] + picture.numpy()
    with torch.no_grad():
        assert np.allclose(network(picture).numpy(), expected, atol=1e-5)


def test_the_receptive_field_is_as_declared() -> None:
    torch.manual_seed(0)
    network = Compact(CompactConfig(8, 2, 2))
    picture = torch.rand(1, 3, 1, 24).expand(1, 3, 12, 24).contiguous()
    changed = picture.clone()
    changed[..., 12:] = 0
    with torch.no_grad():
        away = (network(picture) - network(changed)).abs().amax((0, 1, 2))
    seen = 12 - network.reach
    assert float(away[: 2 * seen].max()) == 0 < float(away[2 * seen :].min())
