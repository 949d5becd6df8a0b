"""The 3D U-Net against diffusers' network of the same weights, and against itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flickbook.diffusion.unet3d import (
    ResnetBlock,
    SpatialTransformer,
    TemporalConv,
    TemporalTransformer,
    UNet3D,
    UNet3DConfig,
)
from flickbook.errors import WeightsError

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "cross_attention_dim": 48,
    "attention_head_dim": 16,
}
MODELSCOPE = UNet3DConfig()


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest error, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def awaken(network: Any) -> Any:
    """Give the layers that start as nothing something to say."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network.eval()


@pytest.mark.parametrize(("frames", "height", "width"), [(5, 8, 8), (1, 8, 8), (4, 6, 10)])
def test_whole_network_equals_diffusers(frames: int, height: int, width: int) -> None:
    """Odd sizes too: 6 x 10 does not halve evenly twice."""
    from diffusers import UNet3DConditionModel

    library: Any = UNet3DConditionModel
    torch.manual_seed(0)
    stock = awaken(library(**SMALL))
    ours = UNet3D(UNet3DConfig.from_dict(dict(stock.config))).eval()
    ours.load_state_dict(stock.state_dict())
    x, context = torch.randn(2, 8, frames, height, width), torch.randn(2, 7, 48)
    timestep = torch.tensor([3, 801])
    with torch.no_grad():
        assert worst(ours(x, timestep, context), stock(x, timestep, context).sample) <= 1e-5


def test_prompt_prepared_once_changes_nothing() -> None:
    torch.manual_seed(0)
    network = awaken(UNet3D(UNet3DConfig.from_dict(SMALL)))
    x, context, timestep = torch.randn(2, 8, 4, 8, 8), torch.randn(2, 7, 48), torch.tensor(500)
    with torch.no_grad():
        assert torch.equal(network(x, timestep, context), network(x, timestep, network.prompt(context)))


def test_spatial_transformer_at_modelscope_width() -> None:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    torch.manual_seed(0)
    stock = Transformer2DModel(5, 64, in_channels=320, cross_attention_dim=1024, use_linear_projection=True).eval()
    ours = SpatialTransformer(320, 5, 64, 1024, 32).eval()
    ours.load_state_dict(stock.state_dict())
    x, context = torch.randn(4, 320, 8, 8), torch.randn(2, 9, 1024)
    with torch.no_grad():
        expected = stock(x, encoder_hidden_states=context.repeat_interleave(2, dim=0)).sample
        assert worst(ours(x, context, 2), expected) <= 1e-5


def test_temporal_transformer_at_modelscope_width() -> None:
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    torch.manual_seed(0)
    stock = TransformerTemporalModel(10, 64, in_channels=640).eval()
    ours = TemporalTransformer(640, 10, 64, 32, frame_positions=False).eval()
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(6, 640, 4, 4)
    with torch.no_grad():
        assert worst(ours(x, 3), stock(x, num_frames=3).sample) <= 1e-5


def test_temporal_convolution_at_modelscope_width() -> None:
    from diffusers.models.resnet import TemporalConvLayer

    torch.manual_seed(0)
    stock = awaken(TemporalConvLayer(320, 320, dropout=0.1))
    ours = TemporalConv(320, 32).eval()
    ours.load_state_dict(stock.state_dict())
    for frames in (1, 2, 16):
        x = torch.randn(frames, 320, 4, 4)
        with torch.no_grad():
            assert worst(ours(x, frames), stock(x, num_frames=frames)) <= 1e-5


def test_resnet_at_modelscope_width() -> None:
    from diffusers.models.resnet import ResnetBlock2D

    torch.manual_seed(0)
    stock = ResnetBlock2D(in_channels=640, out_channels=320, temb_channels=1280, groups=32, eps=1e-5).eval()
    ours = ResnetBlock(640, 320, 1280, 32, 1e-5).eval()
    ours.load_state_dict(stock.state_dict())
    x, time = torch.randn(3, 640, 8, 8), torch.randn(1, 1, 1280)
    with torch.no_grad():
        assert worst(ours(x, time, 3), stock(x, time[0].repeat(3, 1))) <= 1e-5


def test_modelscope_keys() -> None:
    """Every key and shape of the published network, without its 5.6 GB."""
    from diffusers import UNet3DConditionModel

    library: Any = UNet3DConditionModel
    with torch.device("meta"):
        stock, ours = library().state_dict(), UNet3D(MODELSCOPE).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in stock.items()}


def test_frame_positions_tell_first_from_last() -> None:
    """The one thing the flag is for: with it, equal frames may come out different in the middle of a film."""
    torch.manual_seed(0)
    x = torch.randn(1, 32, 4, 4).expand(8, -1, -1, -1).contiguous()
    plain = TemporalTransformer(32, 2, 16, 8, frame_positions=False).eval()
    placed = TemporalTransformer(32, 2, 16, 8, frame_positions=True).eval()
    placed.load_state_dict(plain.state_dict())
    with torch.no_grad():
        same, different = plain(x, 8), placed(x, 8)
    assert torch.allclose(same[3], same[4], atol=1e-6)
    assert not torch.allclose(different[3], different[4], atol=1e-3)


def test_config_round_trip_and_class_name() -> None:
    config = UNet3DConfig.from_dict(SMALL)
    assert UNet3DConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.to_dict()["_class_name"] == "UNet3DConditionModel"
    different = {"frame_positions": True, "fps_cond": True, "relative_positions": 16, "temporal_convs": False}
    assert different.keys() == set(UNet3DConfig.OWN)
    for field, value in different.items():
        assert field not in config.to_dict()
        custom = UNet3DConfig.from_dict({**SMALL, field: value})
        assert custom.to_dict()["_class_name"] == "FlickbookUNet3DModel" and custom.to_dict()[field] == value
        assert UNet3DConfig.from_dict(custom.to_dict()) == custom


def test_a_config_of_diffusers_asks_for_nothing_of_ours() -> None:
    from diffusers import UNet3DConditionModel

    library: Any = UNet3DConditionModel
    with torch.device("meta"):
        stock = library(**SMALL)
        config = UNet3DConfig.from_dict(dict(stock.config))
        ours = UNet3D(config)
    assert {name: getattr(config, name) for name in UNet3DConfig.OWN} == {
        "fps_cond": False,
        "frame_positions": False,
        "relative_positions": 0,
        "temporal_convs": True,
    }
    assert ours.state_dict().keys() == stock.state_dict().keys()
    assert config.to_dict().keys() <= {"_class_name", *stock.config}


def test_frames_a_second_are_a_second_embedding() -> None:
    """VideoCrafter2: the sinusoids of the rate go through layers of their own and are added to the timestep's."""
    torch.manual_seed(0)
    network = awaken(UNet3D(UNet3DConfig.from_dict({**SMALL, "fps_cond": True})))
    plain = UNet3D(UNet3DConfig.from_dict(SMALL)).eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("fps_embedding")})
    config = network.config
    x = torch.randn(2, config.in_channels, 3, 8, 8)
    context, time = torch.randn(2, 5, config.cross_attention_dim), torch.tensor(300)
    with torch.no_grad():
        slow, fast = network(x, time, context, torch.tensor([8, 8])), network(x, time, context, torch.tensor([8, 24]))
        assert torch.equal(slow[0], fast[0]) and not torch.allclose(slow[1], fast[1], atol=1e-4)
        for parameter in network.fps_embedding.parameters():
            parameter.zero_()
        assert torch.allclose(network(x, time, context, torch.tensor([8, 24])), plain(x, time, context), atol=1e-6)


def test_several_prompts_for_the_same_films_are_those_films_one_by_one() -> None:
    torch.manual_seed(0)
    network = awaken(UNet3D(UNet3DConfig.from_dict(SMALL)))
    x = torch.randn(2, network.config.in_channels, 3, 8, 8)
    context, times = torch.randn(4, 5, network.config.cross_attention_dim), torch.tensor([300, 20])
    with torch.no_grad():
        together = network(x, times, context)
        apart = network(torch.cat([x, x]), times.repeat(2), context)
        kept = network(x, times, network.prompt(context))
    assert together.shape == apart.shape and torch.allclose(together, apart, atol=1e-5)
    assert torch.allclose(kept, together, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("act_fn", "gelu"),
        ("num_attention_heads", 8),
        ("time_cond_proj_dim", 256),
        ("down_block_types", ["CrossAttnDownBlock2D", "CrossAttnDownBlock3D", "DownBlock3D"]),
        ("block_out_channels", [32, 64]),
        ("block_out_channels", [32, 64, 60]),
        ("relative_positions", -1),
        ("relative_positions", True),
    ],
)
def test_config_refuses_another_network(name: str, value: object) -> None:
    with pytest.raises(WeightsError, match=r"^some/config.json: .*(where this network has|differ|split)") as caught:
        UNet3DConfig.from_dict({**SMALL, name: value}, "some/config.json")
    assert "text-to-video-ms-1.7b" in caught.value.remedy


def test_half_precision_stays_close() -> None:
    torch.manual_seed(0)
    network = awaken(UNet3D(UNet3DConfig.from_dict(SMALL)))
    x, context, timestep = torch.randn(1, 8, 4, 8, 8), torch.randn(1, 7, 48), torch.tensor(500)
    with torch.no_grad():
        expected = network(x, timestep, context)
        found = network.bfloat16()(x.bfloat16(), timestep, context.bfloat16()).float()
    assert worst(found, expected) <= 0.05
