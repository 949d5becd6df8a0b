"""The large network of ESRGAN (Wang et al. 2018, arXiv 1809.00219) as Real-ESRGAN (arXiv 2107.10833) has it.

Keys and mathematics are those of `RRDBNet`: blocks of three dense blocks of five convolutions, every residual scaled by
0.2. It always enlarges four times; for a smaller scale each square of 2 x 2 or 4 x 4 pixels becomes channels first.
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
#: Channels of the first convolution -> scale, and the side of the squares that became channels.
_SCALES: Final = {_COLOURS: (4, 1), 4 * _COLOURS: (2, 2), 16 * _COLOURS: (1, 4)}
#: Names of the first ESRGAN files, and of those still older ones that number their layers.
_OLD: Final = {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"}
_NUMBERED: Final = {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}


def rrdb_keys(keys: Iterable[str]) -> dict[str, str]:
    """The keys of a published file -> ours; a key of no known naming stays as it is."""
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
    """What the shapes of a file say: features, channels each dense convolution adds, blocks, and the scale."""

    features: int = 64
    growth: int = 32
    blocks: int = 23
    scale: int = 4

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> RRDBConfig:
        """The network whose weights have these shapes. Raises ValueError, in words, where no such network exists.

        Only what the sizes need is looked at: whether every key is there is for the loader to say.
        """
        first, dense = shapes.get("conv_first.weight", ()), shapes.get("body.0.rdb1.conv1.weight", ())
        last = shapes.get("conv_last.weight", ())
        if not len(first) == len(dense) == len(last) == 4:
            raise ValueError("its convolutions are not those of RRDBNet")
        if first[1] not in _SCALES or last[0] != _COLOURS:
            raise ValueError(f"takes {first[1]} and gives {last[0]} channels, not RGB")
        # Counted, not read off the highest number: a name alone must not decide how much is built.
        blocks = {found[1] for key in shapes if (found := re.match(r"body\.(\d+)\.rdb1\.conv1\.weight$", key))}
        return cls(first[0], dense[0], len(blocks), _SCALES[first[1]][0])


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it: (n, c, h, w) -> (n, c, h, w)."""

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
    """Pictures (n, 3, h, w) in [0, 1] -> (n, 3, h * scale, w * scale), near [0, 1], not clipped."""

    #: Pixels along a side that are worked on at once: at four times the size 64 channels of them are 64 MiB.
    tile = 128

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, self.square = next((c, side) for c, (scale, side) in _SCALES.items() if scale == config.scale)
        #: How many pixels away a pixel of the input is still seen.
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
        # A side that does not divide is filled up with its last pixels, and what they become is cut off.
        filled = F.pad(x, (0, -width % self.square, 0, -height % self.square), mode="replicate")
        first = self.conv_first(F.pixel_unshuffle(filled, self.square))
        hidden = first + self.conv_body(self.body(first))
        for conv in (self.conv_up1, self.conv_up2):
            hidden = F.leaky_relu(conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest")), _SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(hidden), _SLOPE))
        return out.narrow(-2, 0, height * self.scale).narrow(-1, 0, width * self.scale)
