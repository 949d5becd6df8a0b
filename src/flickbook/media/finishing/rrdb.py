"""The large network of ESRGAN (Wang et al. 2018, arXiv 1809.00219), as in Real-ESRGAN (arXiv 2107.10833).

Keys and mathematics are those of `RRDBNet`: blocks of three dense blocks of five convolutions, with residuals scaled by
0.2. It always upscales by four; for a smaller scale, squares of 2 x 2 or 4 x 4 pixels are first turned into channels
(pixel unshuffle).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_COLOURS: Final = 3
_GAIN: Final = 0.2
_SLOPE: Final = 0.2
#: Input channels of the first convolution -> scale, and the side of the pixel-unshuffle squares.
_SCALES: Final = {_COLOURS: (4, 1), 4 * _COLOURS: (2, 2), 16 * _COLOURS: (1, 4)}
#: Key names of the first ESRGAN files; still older ones number their layers.
_OLD: Final = {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"}
_NUMBERED: Final = {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}


def rrdb_keys(keys: Iterable[str]) -> dict[str, str]:
    """Map the keys of a published file to ours; keys of unknown naming are unchanged."""
    renamed = {}
    for key in keys:
        name = re.sub(
            r"^(?:RRDB_trunk|model\.1\.sub)\.(\d+)\.RDB(\d)\.conv(\d)(?:\.0)?\.", r"body.\1.rdb\2.conv\3.", key
        )
        name = re.sub(r"^model\.1\.sub\.\d+\.(weight|bias)$", r"conv_body.\1", name)
        name = re.sub(r"^model\.(\d+)\.", lambda found: f"{_NUMBERED.get(found[1], found[0][:-1])}.", name)
        first, dot, rest = name.partition(".")
        renamed[key] = _OLD.get(first, first) + dot + rest
    return renamed


@dataclass(frozen=True)
class RRDBConfig:
    """The configuration of a file: features, channels added by each dense convolution, blocks, and scale."""

    features: int = 64
    growth: int = 32
    blocks: int = 23
    scale: int = 4

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> RRDBConfig:
        """Derive the configuration from the shapes of the weights. Raises ValueError with a reason if there is none.

        Only the shapes that determine sizes are read; the loader checks that every key is present.
        """
        first, dense = shapes.get("conv_first.weight", ()), shapes.get("body.0.rdb1.conv1.weight", ())
        last = shapes.get("conv_last.weight", ())
        if not len(first) == len(dense) == len(last) == 4:
            raise ValueError("its convolutions are not those of RRDBNet")
        if first[1] not in _SCALES or last[0] != _COLOURS:
            raise ValueError(f"takes {first[1]} and gives {last[0]} channels, not RGB")
        # Blocks are counted, not read from the highest number: a single key name must not decide how much is allocated.
        blocks = {found[1] for key in shapes if (found := re.match(r"body\.(\d+)\.rdb1\.conv1\.weight$", key))}
        return cls(first[0], dense[0], len(blocks), _SCALES[first[1]][0])


class DenseBlock(nn.Module):
    """Five convolutions, each of which receives all previous outputs: (n, c, h, w) -> (n, c, h, w)."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        inside = [features + i * growth for i in range(5)]
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            nn.Conv2d(width, features if i == 4 else growth, 3, padding=1) for i, width in enumerate(inside)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(conv(seen), _SLOPE)], dim=1)
        added: Tensor = self.conv5(seen)
        return x + _GAIN * added


class Block(nn.Module):
    """Three dense blocks: (n, c, h, w) -> (n, c, h, w)."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + _GAIN * hidden


class RRDBNet(nn.Module):
    """Images (n, 3, h, w) in [0, 1] -> (n, 3, h * scale, w * scale), near [0, 1], not clipped."""

    #: Side of a tile in pixels: at four times the size, 64 channels of it are 64 MiB.
    tile = 128

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, self.square = next((c, side) for c, (scale, side) in _SCALES.items() if scale == config.scale)
        #: The radius of the receptive field in pixels of the input.
        self.reach = (15 * config.blocks + 4) * self.square
        width = config.features
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(Block(width, config.growth) for _ in range(config.blocks)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (
            nn.Conv2d(width, width, 3, padding=1) for _ in range(4)
        )
        self.conv_last = nn.Conv2d(width, _COLOURS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        # Sides that are not divisible are padded by replication, and the result is cropped.
        filled = F.pad(x, (0, -width % self.square, 0, -height % self.square), mode="replicate")
        first = self.conv_first(F.pixel_unshuffle(filled, self.square))
        hidden = first + self.conv_body(self.body(first))
        for conv in (self.conv_up1, self.conv_up2):
            hidden = F.leaky_relu(conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest")), _SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(hidden), _SLOPE))
        return out.narrow(-2, 0, height * self.scale).narrow(-1, 0, width * self.scale)
