"""Packed networks: the same film, and nothing where packing does not apply."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flickbook.catalogue import find
from flickbook.diffusion.pack import PackedConv, PackedGEGLU, PackedLinear, available, pack
from flickbook.diffusion.text_to_video import TextToVideo, noise


@pytest.fixture(scope="module")
def networks() -> tuple[TextToVideo, TextToVideo]:
    """The built-in model as it is, and packed."""
    plain, packed = (TextToVideo.load(find("builtin").path()) for _ in range(2))
    return plain, packed.pack()


def test_this_torch_has_the_operators() -> None:
    assert available()


@pytest.mark.parametrize("frames", [1, 4])
def test_packed_networks_compute_the_same(networks: tuple[TextToVideo, TextToVideo], frames: int) -> None:
    plain, packed = networks
    latents = noise([3], plain.latent_shape(frames, 128, 128))
    context = plain.embed(["a red circle moving left on a blue background"])
    with torch.inference_mode():
        expected, found = (each.unet(latents, torch.tensor(500), context) for each in networks)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    ours, theirs = (torch.cat(list(each.decode(latents[0]))).int() for each in networks)
    assert int((ours - theirs).abs().max()) <= 1


def test_the_heavy_layers_are_packed(networks: tuple[TextToVideo, TextToVideo]) -> None:
    _, packed = networks
    for network in (packed.unet, packed.autoencoder):
        kinds = {type(module) for module in network.modules()}
        assert not kinds & {nn.Linear, nn.Conv2d, nn.Conv3d}
    assert {PackedLinear, PackedConv, PackedGEGLU} <= {type(module) for module in packed.unet.modules()}


@pytest.mark.skipif(not available(torch.bfloat16), reason="this processor has no kernels for bfloat16")
def test_packed_bfloat16_is_as_near_as_plain_bfloat16(networks: tuple[TextToVideo, TextToVideo]) -> None:
    full, half, packed = networks[0], *(TextToVideo.load(find("builtin").path(), torch.bfloat16) for _ in range(2))
    pack(packed.unet)
    assert not {nn.Linear, nn.Conv2d, nn.Conv3d} & {type(module) for module in packed.unet.modules()}
    latents = noise([3], full.latent_shape(4, 128, 128))
    context = full.embed(["a red circle moving left on a blue background"])
    with torch.inference_mode():
        expected = full.unet(latents, torch.tensor(500), context)
        plain, found = (
            float((each.unet(latents.bfloat16(), torch.tensor(500), context.bfloat16()) - expected).square().mean())
            for each in (half, packed)
        )
    assert found <= 1.2 * plain <= 1.2 * 1e-3 * float(expected.square().mean())


def test_other_precisions_and_missing_operators_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    half = nn.Sequential(nn.Linear(4, 4)).half()
    pack(half)
    assert type(half[0]) is nn.Linear
    available.cache_clear()
    # Another torch may not have it.
    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    plain = nn.Sequential(nn.Linear(4, 4))
    pack(plain)
    assert not available() and type(plain[0]) is nn.Linear
    available.cache_clear()
