"""Twice the size and a convolution, as the U-Net and the autoencoder have it on their way up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Inputs of a kernel that are worked on at a time.
_ROWS = 64


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
    kernel = torch.empty(weight.shape[1], weight.shape[0], 4, 4, dtype=weight.dtype, device=weight.device)
    # Some inputs at a time: summed in float32, of a large kernel as little as can be is there twice.
    for rows in map(slice, range(0, len(kernel), _ROWS), range(_ROWS, len(kernel) + _ROWS, _ROWS)):
        flipped = weight[:, rows].detach().transpose(0, 1).flip(-1, -2).float()
        kernel[rows] = sum(F.pad(flipped, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
    return kernel


def plain(kernel: Tensor) -> Tensor:
    """The 3x3 kernel (out, in, 3, 3) that `transposed` made this one from, up to rounding."""
    wide = kernel.float()
    # Of the four rows the outer ones are the kernel's own, and the inner ones sums of two neighbours.
    tall = torch.stack([wide[..., 0, :], wide[..., 1, :] - wide[..., 0, :], wide[..., 3, :]], dim=-2)
    own = torch.stack([tall[..., 0], tall[..., 1] - tall[..., 0], tall[..., 3]], dim=-1)
    return own.flip(-1, -2).transpose(0, 1).to(kernel.dtype)
