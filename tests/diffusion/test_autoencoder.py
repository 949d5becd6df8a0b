"""The autoencoder against diffusers' AutoencoderKL, and its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention as LibraryAttention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor

from flickbook.diffusion.autoencoder import (
    Attention,
    Autoencoder,
    AutoencoderConfig,
    DiagonalGaussian,
    Downsample,
    ResnetBlock,
    autoencoder_keys,
)
from flickbook.diffusion.upsample import Upsample
from flickbook.errors import WeightsError

#: The library has no types.
Library: Any = AutoencoderKL
LibraryResnet: Any = ResnetBlock2D
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
SHIPPED: dict[str, Any] = {
    "down_block_types": (DOWN,) * 5,
    "up_block_types": (UP,) * 5,
    "block_out_channels": (24, 48, 96, 128, 128),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
}
ATTENDING: dict[str, Any] = {
    "down_block_types": (DOWN,) * 3,
    "up_block_types": (UP,) * 3,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "norm_num_groups": 8,
}
BARE = ATTENDING | {"use_quant_conv": False, "use_post_quant_conv": False}
MODELSCOPE: dict[str, Any] = {
    "down_block_types": (DOWN,) * 4,
    "up_block_types": (UP,) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over largest value; never NaN, which would pass any comparison made with max()."""
    assert ours.shape == theirs.shape and ours.isfinite().all() and theirs.isfinite().all()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def shaken(module: Any) -> Any:
    """Norms start as ones and zeros, all alike: move them, so that two that are swapped show."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def pair(values: dict[str, Any]) -> tuple[Autoencoder, Any]:
    theirs = shaken(Library(**values))
    ours = Autoencoder(AutoencoderConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("values", [SHIPPED, ATTENDING, BARE], ids=["shipped", "attending", "no quant convolutions"])
def test_encodes_and_decodes_like_the_library(values: dict[str, Any]) -> None:
    ours, theirs = pair(values)
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    found, expected = ours.encode(images), theirs.encode(images).latent_dist
    assert error(found.mean, expected.mean) <= 1e-5
    assert error(found.logvar, expected.logvar) <= 1e-5
    latents = torch.randn_like(found.mean)
    assert error(ours.decode(latents), theirs.decode(latents).sample) <= 1e-5


@pytest.mark.parametrize("values", [SHIPPED, MODELSCOPE, {}], ids=["shipped", "modelscope", "library defaults"])
def test_has_the_librarys_keys_and_shapes(values: dict[str, Any]) -> None:
    with torch.device("meta"):
        theirs = Library(**values)
        ours = Autoencoder(AutoencoderConfig.from_dict(values))
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("ours", "theirs", "channels"),
    [
        (lambda: ResnetBlock(512, 512, 32), lambda: library_resnet(512, 512), 512),
        (lambda: ResnetBlock(256, 512, 32), lambda: library_resnet(256, 512), 256),
        (lambda: Attention(512, 32), lambda: library_attention(512), 512),
        (lambda: Downsample(512), lambda: Downsample2D(512, use_conv=True, padding=0, name="op"), 512),
        (lambda: Upsample(512), lambda: Upsample2D(512, use_conv=True), 512),
    ],
    ids=["resnet", "resnet with shortcut", "attention", "downsample", "upsample"],
)
def test_layers_at_published_width(ours: Any, theirs: Any, channels: int) -> None:
    mine, library = ours().eval(), shaken(theirs())
    keys = mine.state_dict().keys()
    mine.load_state_dict({k: v for k, v in library.state_dict().items() if k in keys})
    x = torch.randn(1, channels, 12, 8)
    expected = library(x, temb=None) if isinstance(library, ResnetBlock2D) else library(x)
    assert error(mine(x), expected) <= 1e-5


def library_resnet(inside: int, out: int) -> Any:
    return LibraryResnet(in_channels=inside, out_channels=out, temb_channels=None, groups=32, eps=1e-6)


def library_attention(channels: int) -> LibraryAttention:
    return LibraryAttention(
        channels, heads=1, dim_head=channels, norm_num_groups=32, eps=1e-6, bias=True, residual_connection=True
    )


def test_channels_last_keeps_memory_and_values() -> None:
    for values in (SHIPPED, ATTENDING):
        ours, _ = pair(values)
        images = torch.rand(2, 3, 64, 64) * 2 - 1
        latents = ours.encode(images).mode()
        expected = ours.decode(latents)
        ours.to(memory_format=torch.channels_last)
        last = images.to(memory_format=torch.channels_last)
        assert error(ours.encode(last).mode(), latents) <= 1e-5
        images = ours.decode(latents.to(memory_format=torch.channels_last))
        assert error(images, expected) <= 1e-5
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_factor_is_pixels_per_latent() -> None:
    ours, _ = pair(SHIPPED)
    assert ours.config.factor == 16
    assert ours.encode(torch.zeros(1, 3, 128, 128)).mean.shape == (1, 8, 8, 8)
    assert ours.decode(torch.zeros(1, 8, 8, 8)).shape == (1, 3, 128, 128)


def test_a_seed_fixes_the_sample_and_its_spread_is_the_variance() -> None:
    latents = DiagonalGaussian(torch.full((1, 1, 100, 100), 3.0), torch.full((1, 1, 100, 100), -1.0))
    first, again, other = (latents.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.mean().item() == pytest.approx(3.0, abs=0.03)
    assert first.var().item() == pytest.approx(0.3679, rel=0.05)


def test_training_pass_reaches_every_weight() -> None:
    with torch.enable_grad():
        ours = Autoencoder(AutoencoderConfig.from_dict(ATTENDING))
        images, latents = ours(torch.rand(1, 3, 16, 16), torch.Generator().manual_seed(0))
        (images.square().mean() + latents.mean.square().mean() + latents.logvar.mean()).backward()
    assert [name for name, p in ours.named_parameters() if p.grad is None] == []


def test_log_variance_is_bounded() -> None:
    ours, _ = pair(SHIPPED)
    assert ours.quant_conv is not None and ours.quant_conv.bias is not None
    ours.quant_conv.bias[8:] = torch.tensor([1e4, -1e4] * 4)
    logvar = ours.encode(torch.zeros(1, 3, 16, 16)).logvar
    assert logvar.max() == 20.0 and logvar.min() == -30.0


def test_old_attention_keys_are_renamed() -> None:
    _, theirs = pair(ATTENDING)
    old = {"to_q": "query", "to_k": "key", "to_v": "value"}
    state = {}
    for key, value in theirs.state_dict().items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        state[key.replace(".to_out.0.", ".proj_attn.")] = value
    assert state.keys() != theirs.state_dict().keys()
    assert set(autoencoder_keys(state).values()) == theirs.state_dict().keys()


def test_configuration_goes_round_and_stock_diffusers_reads_it() -> None:
    config = AutoencoderConfig.from_dict(SHIPPED | {"scaling_factor": 0.9})
    assert AutoencoderConfig.from_dict(config.to_dict()) == config
    with torch.device("meta"):
        theirs = Library.from_config(config.to_dict())
        assert theirs.state_dict().keys() == Autoencoder(config).state_dict().keys()
    assert theirs.config.scaling_factor == 0.9


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 5}, "AttnDownEncoderBlock2D"),
        ({"up_block_types": [UP] * 4}, "differ in length"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"shift_factor": 0.1}, "shift_factor"),
        ({"latents_mean": [0.0] * 8}, "latents_mean"),
        ({"surprise": 1}, "surprise"),
        ({"norm_num_groups": 7}, "norm_num_groups"),
    ],
)
def test_refuses_what_it_cannot_compute(change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named) as caught:
        AutoencoderConfig.from_dict(SHIPPED | change, path="model/vae/config.json")
    assert str(caught.value).startswith("model/vae/config.json: ") and "\n" not in str(caught.value)


def test_ignores_what_does_not_change_the_network() -> None:
    plain = AutoencoderConfig.from_dict(SHIPPED)
    assert AutoencoderConfig.from_dict(SHIPPED | {"_diffusers_version": "0.3", "sample_size": 7}) == plain
