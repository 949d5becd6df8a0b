"""Twice the size in one step: the same picture from four products a pixel instead of nine."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from flickbook.diffusion.pack import PackedUpsample
from flickbook.diffusion.upsample import Upsample, plain, transposed


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (5, 3)])
def test_a_transposed_convolution_does_it(height: int, width: int) -> None:
    torch.manual_seed(height)
    layer, x = Upsample(6), torch.randn(2, 6, height, width)
    found = F.conv_transpose2d(x, transposed(layer.conv.weight), layer.conv.bias, stride=2, padding=1)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [(3, 5), (70, 130)])
def test_the_kernel_can_be_had_back(channels: tuple[int, int]) -> None:
    weight = torch.randn(*channels, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(transposed(weight)), weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [None, (8, 8), (7, 8), (7, 7)])
def test_packed_it_has_every_size(size: tuple[int, int] | None) -> None:
    torch.manual_seed(0)
    layer, x = Upsample(8), torch.randn(3, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    requested = None if size is None else torch.Size(size)
    with torch.inference_mode():
        expected, found = layer(x, requested), PackedUpsample(layer)(x, requested)
    assert found.shape[-2:] == (size or (8, 8))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
