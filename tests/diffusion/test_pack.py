"""Packed networks: the same film, and nothing where packing does not apply."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from flickbook.catalogue import find
from flickbook.diffusion.pack import PackedConv, PackedGEGLU, PackedLinear, PackedNorm, available, pack
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
    plain = found = scale = 0.0
    # Rounding is luck at a single timestep: there either of the two may be 1.4 times nearer.
    for timestep in map(torch.tensor, (100, 300, 500, 700, 900)):
        with torch.inference_mode():
            expected = full.unet(latents, timestep, context)
            near, packed_near = (
                float((each.unet(latents.bfloat16(), timestep, context.bfloat16()) - expected).square().mean())
                for each in (half, packed)
            )
        plain, found, scale = plain + near, found + packed_near, scale + float(expected.square().mean())
    assert found <= 1.2 * plain <= 1.2 * 1e-3 * scale


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


@pytest.mark.parametrize("size", [(4, 4), (32, 32)])
def test_a_norm_in_bfloat16_is_as_near_as_can_be(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    norm, x = nn.GroupNorm(4, 16), torch.randn(3, 16, *size).contiguous(memory_format=torch.channels_last)
    norm.weight.data.uniform_(0.5, 2)
    with torch.inference_mode():
        expected, found = norm(x), PackedNorm(norm.bfloat16())(x.bfloat16())
    assert found.dtype == torch.bfloat16 and found.stride() == expected.stride()
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("channels", "groups", "size", "raised"),
    [(64, 2, (4, 4), True), (128, 2, (4, 4), False), (64, 2, (32, 32), False), (64, 2, (16, 32), True)],
)
def test_a_norm_in_bfloat16_goes_through_float32_only_where_that_is_quicker(
    channels: int, groups: int, size: tuple[int, int], raised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm, seen = PackedNorm(nn.GroupNorm(groups, channels).bfloat16()), []
    group_norm = torch.nn.functional.group_norm

    def recorded(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(x.dtype)
        return group_norm(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("torch.nn.functional.group_norm", recorded)
    with torch.inference_mode():
        norm(torch.ones(1, channels, *size, dtype=torch.bfloat16))
    assert seen == [torch.float32 if raised else torch.bfloat16]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing says here what a process holds")
def test_packing_holds_little_more_than_the_weights() -> None:
    """Twice as much stays where what is freed between packed layers is not given back: then it is 1.99."""
    code = """
        import torch
        from pathlib import Path
        from torch import nn
        from flickbook.diffusion.pack import pack
        def own():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
        with torch.no_grad():
            nn.Linear(2, 2)(torch.ones(2, 2))
            before = own()
            network = nn.Sequential(*(nn.Conv2d(384, 384, 3, padding=1) for _ in range(64)))
            held = own() - before
            pack(network)
            network(torch.ones(2, 384, 8, 8))
            print((own() - before) / held)
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert float(found.stdout) < 1.4


def test_a_convolution_is_packed_once_for_the_size_of_its_input_and_computes_the_same_bits() -> None:
    plain = torch.nn.Conv2d(64, 64, 3, padding=1)
    packed, weights = PackedConv(plain), []
    with torch.inference_mode():
        for count, side in ((2, 4), (2, 32), (2, 32), (32, 4), (1, 4)):
            x = torch.randn(count, 64, side, side).to(memory_format=torch.channels_last)
            found = packed(x)
            weights.append(packed.weight)
            assert torch.equal(found, PackedConv(plain)(x)), "what it computed before decides"
            torch.testing.assert_close(found, plain(x), atol=1e-4, rtol=1e-4)
    assert [weights[i] is weights[i - 1] for i in (1, 2, 3, 4)] == [False, True, False, True]
