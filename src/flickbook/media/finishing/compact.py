"""Real-ESRGAN's compact upscaling network (Wang et al. 2021, arXiv 2107.10833).

The network is a chain of convolutions at low resolution. Keys and mathematics are those of `SRVGGNetCompact`, as in
realesr-animevideov3 and realesr-general-x4v3: `body.0` is a convolution, `body.1` its PReLU, and so on; the last
convolution has no PReLU, and a pixel shuffle turns its channels into pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

_COLOURS = 3


@dataclass(frozen=True)
class CompactConfig:
    """The configuration of a file: features, convolutions between the first and the last, and scale."""

    features: int = 64
    convolutions: int = 16
    scale: int = 4

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> CompactConfig:
        """Derive the configuration from the shapes of the weights. Raises ValueError with a reason if there is none.

        Only the shapes that determine sizes are read; the loader checks that every key is present.
        """
        first = shapes.get("body.0.weight", ())
        places = [int(found[1]) for key in shapes if (found := re.match(r"body\.(\d{1,4})\.weight$", key))]
        last = max(places, default=0)
        out = shapes.get(f"body.{last}.weight", ())
        if len(first) != 4 or len(out) != 4 or last < 2 or last % 2:
            raise ValueError("its convolutions are not those of SRVGGNetCompact with PReLU")
        scale = round((out[0] / _COLOURS) ** 0.5)
        if first[1] != _COLOURS or out[0] != _COLOURS * scale * scale:
            raise ValueError(f"takes {first[1]} and gives {out[0]} channels, not RGB")
        return cls(first[0], last // 2 - 1, scale)


class Compact(nn.Module):
    """Images (n, 3, h, w) in [0, 1] -> (n, 3, h * scale, w * scale), near [0, 1], not clipped."""

    #: Side of a tile in pixels: 64 channels of it are 64 MiB.
    tile = 512

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        #: The radius of the receptive field in pixels of the input.
        self.reach = config.convolutions + 2
        widths = [_COLOURS, *[config.features] * (config.convolutions + 1)]
        body: list[nn.Module] = []
        for inside, out in zip(widths, widths[1:], strict=False):
            body += [nn.Conv2d(inside, out, 3, padding=1), nn.PReLU(out)]
        self.body = nn.ModuleList([*body, nn.Conv2d(widths[-1], _COLOURS * config.scale**2, 3, padding=1)])

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for layer in self.body:
            hidden = layer(hidden)
        # The network predicts the residual to nearest-neighbour upscaling.
        return F.pixel_shuffle(hidden, self.scale) + F.interpolate(x, scale_factor=float(self.scale), mode="nearest")
