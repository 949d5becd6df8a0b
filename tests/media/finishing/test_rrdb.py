"""The large network: the published keys and their older names, the published mathematics, what a file's shapes say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flickbook.media.finishing.rrdb import RRDBConfig, RRDBNet, rrdb_keys


def shapes(config: RRDBConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in RRDBNet(config).state_dict().items()}


def test_keys_and_shapes_equal_the_published_files() -> None:
    found = shapes(RRDBConfig())  # RealESRGAN_x4plus
    assert len(found) == 2 * (23 * 15 + 6)
    assert found["conv_first.weight"] == (64, 3, 3, 3) and found["conv_last.weight"] == (3, 64, 3, 3)
    assert found["body.0.rdb1.conv1.weight"] == (32, 64, 3, 3)
    assert found["body.22.rdb3.conv5.weight"] == (64, 192, 3, 3)
    assert {f"conv_{part}.bias" for part in ("body", "up1", "up2", "hr")} <= set(found)
    assert shapes(RRDBConfig(scale=2))["conv_first.weight"] == (64, 12, 3, 3)  # RealESRGAN_x2plus
    assert "body.6.rdb1.conv1.weight" not in shapes(RRDBConfig(blocks=6))  # RealESRGAN_x4plus_anime_6B


@pytest.mark.parametrize("config", [RRDBConfig(), RRDBConfig(scale=2), RRDBConfig(blocks=6), RRDBConfig(8, 4, 1, 1)])
def test_the_configuration_is_read_from_the_shapes(config: RRDBConfig) -> None:
    assert RRDBConfig.of(shapes(config)) == config


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conv_first.weight": (64, 4, 3, 3)}, "takes 4"),
        ({"conv_last.weight": (1, 64, 3, 3)}, "gives 1"),
        ({"conv_last.weight": (3,)}, "RRDBNet"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RRDBConfig.of(shapes(RRDBConfig()) | change)


def test_a_high_number_in_a_name_does_not_make_a_deep_network() -> None:
    assert RRDBConfig.of(shapes(RRDBConfig(blocks=2)) | {"body.999999.rdb1.conv1.weight": (32, 64, 3, 3)}).blocks == 3


def test_older_layer_names_are_converted() -> None:
    ours = list(shapes(RRDBConfig(blocks=2)))

    def first(key: str) -> str:
        key = key.replace("body.", "RRDB_trunk.", 1) if key.startswith("body.") else key
        for new, old in (("conv_body", "trunk_conv"), ("conv_up", "upconv"), ("conv_hr", "HRconv"), (".rdb", ".RDB")):
            key = key.replace(new, old)
        return key

    def oldest(key: str) -> str:
        layer, _, rest = key.partition(".")
        places = {"conv_first": 0, "conv_up1": 3, "conv_up2": 6, "conv_hr": 8, "conv_last": 10}
        if layer == "body":
            block, dense, conv, kind = rest.split(".")
            return f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"
        return f"model.1.sub.2.{rest}" if layer == "conv_body" else f"model.{places[layer]}.{rest}"

    for rename in (str, first, oldest):
        theirs = [rename(key) for key in ours]
        assert list(rrdb_keys(theirs).values()) == ours
    assert rrdb_keys(["body.0.weight", "model.77.x", "text"]) == {
        "body.0.weight": "body.0.weight",
        "model.77.x": "model.77.x",
        "text": "text",
    }


def by_formula(state: dict[str, Tensor], picture: Tensor, blocks: int) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def bent(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    first = x = conv("conv_first", picture)
    for block in range(blocks):
        whole = x
        for dense in ("rdb1", "rdb2", "rdb3"):
            seen = [x]
            for i in range(1, 5):
                seen.append(bent(conv(f"body.{block}.{dense}.conv{i}", torch.cat(seen, 1))))
            x = x + 0.2 * conv(f"body.{block}.{dense}.conv5", torch.cat(seen, 1))
        x = whole + 0.2 * x
    x = first + conv("conv_body", x)
    x = bent(conv("conv_up1", twice(x)))
    x = bent(conv("conv_up2", twice(x)))
    return conv("conv_last", bent(conv("conv_hr", x)))


@torch.no_grad()
def test_the_output_equals_the_formula() -> None:
    torch.manual_seed(0)
    network, picture = RRDBNet(RRDBConfig(8, 4, 2, 4)), torch.rand(1, 3, 6, 5)
    assert torch.allclose(network(picture), by_formula(network.state_dict(), picture, 2), atol=1e-5)
    assert network(picture).shape == (1, 3, 24, 20)


@torch.no_grad()
def test_lower_scales_use_pixel_unshuffle() -> None:
    torch.manual_seed(0)
    network, picture = RRDBNet(RRDBConfig(8, 4, 1, 2)), torch.rand(1, 3, 6, 8)
    # Channel 4 c + 2 down + across holds the pixel at (down, across) of a square.
    squares = torch.stack([picture[..., d::2, a::2] for d in (0, 1) for a in (0, 1)], 2).flatten(1, 2)
    assert torch.allclose(network(picture), by_formula(network.state_dict(), squares, 1), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (6, 7)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sides_not_divisible_by_the_unshuffle_factor_are_supported(size: tuple[int, int], scale: int) -> None:
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(8, 4, 1, scale))
    height, width = size
    assert network(torch.rand(1, 3, height, width)).shape == (1, 3, height * scale, width * scale)
