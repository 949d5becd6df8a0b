"""Twice the size and a convolution, as the U-Net and the autoencoder have it on their way up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Upsample(nn.Module):
    """Every pixel four times, then a 3x3 convolution; its weights sit under the name `conv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        """(n, c, h, w) -> (n, c, 2 * h, 2 * w), or to `size` (height, width) where that is not twice this one."""
        size = torch.Size((2 * x.shape[-2], 2 * x.shape[-1])) if size is None else size
        return self.conv(F.interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]


def transposed(weight: Tensor) -> Tensor:
    """A 3x3 kernel (out, in, 3, 3) -> the 4x4 kernel (in, out, 4, 4) of a transposed convolution, stride 2, padding 1,
    that does what `Upsample` does.

    Of the nine products for a pixel of the larger picture the copies fall together: four are left (the sub-pixel
    convolution of Shi et al. 2016, arXiv 1609.05158, read backwards). Equal up to rounding.
    """
    copies = torch.ones(2, 2, dtype=weight.dtype, device=weight.device)
    flipped = weight.transpose(0, 1).flip(-1, -2)
    spread = F.conv2d(flipped.flatten(0, 1)[:, None], copies[None, None], padding=1)
    return spread.view(*flipped.shape[:2], 4, 4)
