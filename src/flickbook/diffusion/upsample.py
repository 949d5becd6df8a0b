"""Upsampling by two with a convolution, as in the U-Net and the autoencoder's decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Input channels of a kernel that are processed at once.
_ROWS = 64


class Upsample(nn.Module):
    """Nearest-neighbour upsampling, then a 3x3 convolution; its weights have the key `conv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        """(n, c, h, w) -> (n, c, 2 * h, 2 * w), or to `size` (height, width) if that differs."""
        size = torch.Size((2 * x.shape[-2], 2 * x.shape[-1])) if size is None else size
        return self.conv(F.interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]


def transposed(weight: Tensor) -> Tensor:
    """A 3x3 kernel (out, in, 3, 3) -> the 4x4 kernel (in, out, 4, 4) of a transposed convolution with stride 2 and
    padding 1 that computes the same as `Upsample`.

    Of the nine products per output pixel, those of copies of the same input pixel merge, which leaves four (the
    sub-pixel convolution of Shi et al. 2016, arXiv 1609.05158, in reverse). Equal up to rounding.
    """
    kernel = torch.empty(weight.shape[1], weight.shape[0], 4, 4, dtype=weight.dtype, device=weight.device)
    # A few inputs at a time: the sums are in float32, and a second copy of a large kernel would take much memory.
    for rows in map(slice, range(0, len(kernel), _ROWS), range(_ROWS, len(kernel) + _ROWS, _ROWS)):
        flipped = weight[:, rows].detach().transpose(0, 1).flip(-1, -2).float()
        kernel[rows] = sum(F.pad(flipped, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
    return kernel


def plain(kernel: Tensor) -> Tensor:
    """The 3x3 kernel (out, in, 3, 3) from which `transposed` made this one, up to rounding."""
    wide = kernel.float()
    # Of the four rows the outer ones are the kernel's own, and the inner ones sums of two neighbours.
    tall = torch.stack([wide[..., 0, :], wide[..., 1, :] - wide[..., 0, :], wide[..., 3, :]], dim=-2)
    taps = torch.stack([tall[..., 0], tall[..., 1] - tall[..., 0], tall[..., 3]], dim=-1)
    return taps.flip(-1, -2).transpose(0, 1).to(kernel.dtype)
