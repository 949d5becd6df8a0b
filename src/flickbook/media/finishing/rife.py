"""RIFE: a network that synthesises the frame at any time between two frames.

Huang, Zhang, Heng, Shi and Zhou 2022, "Real-Time Intermediate Flow Estimation for Video Frame Interpolation" (ECCV,
arXiv 2011.06294), in the published version 4.6: four blocks from coarse to fine, each of which refines the motion to
both frames and a mask that blends them. Keys and shapes are those of the published state dict, with or without the
prefix `module.`. Only safetensors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from flickbook.errors import WeightsError, shown

#: Channels of each block, and the factor by which its input is reduced.
BLOCKS: Final = ((192, 8), (128, 4), (96, 2), (64, 1))
MULTIPLE: Final = 32  # a side in pixels: the first block reduces it by eight, and halves it twice more
_LAYERS: Final = 8
_SLOPE: Final = 0.2
_MOTION: Final = 4  # channels: x and y to the first frame, x and y to the second
_BEGIN: Final = 3 + 3 + 1  # both frames and the time
_AGAIN: Final = 3 + 3 + 1 + 1 + _MOTION  # both frames as warped so far, the time, the mask and the motion
_MADE: Final = 6  # the motion, the mask, and one channel that only training used
_PREFIX: Final = "module."
_FLOATS: Final = ("F16", "BF16", "F32")
_REMEDY: Final = "name a RIFE 4.6 as safetensors"


class Residual(nn.Module):
    """A convolution with a channel-wise scale and a residual connection: (n, c, h, w) -> (n, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.conv(x) * self.beta + x, _SLOPE)


def _halved(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, channels, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE))


class Block(nn.Module):
    """Refines motion and mask on images that are `reduced` times smaller."""

    def __init__(self, inputs: int, channels: int, reduced: int) -> None:
        super().__init__()
        self.reduced = reduced
        self.conv0 = nn.Sequential(_halved(inputs, channels // 2), _halved(channels // 2, channels))
        self.convblock = nn.Sequential(*(Residual(channels) for _ in range(_LAYERS)))
        self.lastconv = nn.Sequential(
            nn.ConvTranspose2d(channels, 4 * _MADE, 4, stride=2, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, x: Tensor, motion: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (n, c, h, w) and the motion so far (n, 4, h, w), in pixels -> changes of motion and mask (n, 1, h, w)."""
        seen = _resized(x, 1 / self.reduced)
        if motion is not None:
            seen = torch.cat((seen, _resized(motion, 1 / self.reduced) / self.reduced), 1)
        made = _resized(self.lastconv(self.convblock(self.conv0(seen))), self.reduced)
        return made[:, :_MOTION] * self.reduced, made[:, _MOTION : _MOTION + 1]


def _resized(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def moved(picture: Tensor, motion: Tensor) -> Tensor:
    """Sample `picture` (n, c, h, w) at each pixel plus `motion` (n, 2, h, w), x and y in pixels, edges replicated."""
    height, width = picture.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x, y)).to(motion) + motion
    ends = torch.tensor((max(1, width - 1), max(1, height - 1))).to(motion).view(1, 2, 1, 1)
    places = (2 * places / ends - 1).permute(0, 2, 3, 1)
    return functional.grid_sample(picture, places, mode="bilinear", padding_mode="border", align_corners=True)


class IFNet(nn.Module):
    """The four blocks. Every parameter comes from a file."""

    def __init__(self) -> None:
        super().__init__()
        self.block0 = Block(_BEGIN, *BLOCKS[0])
        self.block1, self.block2, self.block3 = (Block(_AGAIN, *each) for each in BLOCKS[1:])

    def forward(self, a: Tensor, b: Tensor, t: float) -> Tensor:
        """Frames a and b (n, 3, h, w) in 0..1, sides a multiple of 32, and t in 0..1 -> the frame at t."""
        motion, mask = self.motion(a, b, t)
        believed = torch.sigmoid(mask)
        return moved(a, motion[:, :2]) * believed + moved(b, motion[:, 2:]) * (1 - believed)

    def motion(self, a: Tensor, b: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the motion (n, 4, h, w) in pixels from time t to a and to b, and the mask's logits (n, 1, h, w)."""
        time = torch.full_like(a[:, :1], t)
        motion, mask = self.block0(torch.cat((a, b, time), 1), None)
        for block in (self.block1, self.block2, self.block3):
            x = torch.cat((moved(a, motion[:, :2]), moved(b, motion[:, 2:]), time, mask), 1)
            change, change_of_mask = block(x, motion)
            motion, mask = motion + change, mask + change_of_mask
        return motion, mask


def load(path: str | Path) -> IFNet:
    """Load the network from a file, in float32 and evaluation mode.

    Keys and shapes are checked before any of the file's data is read. Raises WeightsError, which names the key, if one
    is missing, unexpected, duplicate, of another shape or not floating-point; also for a damaged file and another
    format.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(path, "not a .safetensors file, and no other format is loaded", _REMEDY)
    if not path.is_file():
        raise WeightsError(path, "no such file", _REMEDY)
    with torch.device("meta"):
        network = IFNet()
    expected = {key: list(value.shape) for key, value in network.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            names = _names(file.keys())
            slices = {key: file.get_slice(key) for key in names}
            _check(path, names, expected, {key: each.get_shape() for key, each in slices.items()})
            odd = next((key for key, each in slices.items() if each.get_dtype() not in _FLOATS), None)
            if odd is not None:
                raise WeightsError(path, f"{shown(odd)} holds {slices[odd].get_dtype()}, not floats", _REMEDY)
            state = {name: file.get_tensor(key).float() for key, name in names.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"damaged ({error})", "download the file again") from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise WeightsError(path, "damaged (not all of its values are finite numbers)", "download the file again")
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _names(keys: Iterable[str]) -> dict[str, str]:
    return {key: key.removeprefix(_PREFIX) for key in keys}


def _check(
    path: Path, names: Mapping[str, str], expected: Mapping[str, list[int]], shapes: Mapping[str, list[int]]
) -> None:
    found = set(names.values())
    missing, unexpected = sorted(expected.keys() - found), sorted(found - expected.keys())
    faults = []
    if missing:
        faults.append(f"misses {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""))
    if unexpected:
        more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
        faults.append(f"has unexpected {shown(unexpected[0])}{more}")
    if not faults and len(found) < len(names):
        faults.append(f"has keys both with and without {_PREFIX}")
    if not faults:
        other = [key for key, name in names.items() if list(shapes[key]) != expected[name]]
        faults = [f"{key} is {list(shapes[key])}, not {expected[names[key]]}" for key in other[:1]]
    if faults:
        raise WeightsError(path, f"not a RIFE 4.6: {'; '.join(faults)}", _REMEDY)


def between(network: IFNet, a: np.ndarray, b: np.ndarray) -> Callable[[float], np.ndarray]:
    """Return a function of t, 0 to 1, that makes the frame (h, w, 3) uint8 between frames a and b, (h, w, 3) uint8.

    The sides are padded to a multiple of 32 by replication, and cropped afterwards. One frame is made at a time, so
    memory depends only on the frame size.
    """
    height, width = a.shape[:2]
    filled = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    first, second = (functional.pad(_tensor(each), filled, mode="replicate") for each in (a, b))

    def made(t: float) -> np.ndarray:
        with torch.inference_mode():
            picture = network(first, second, t)[0, :, :height, :width]
            levels = picture.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        return np.asarray(levels.permute(1, 2, 0).numpy())

    return made


def _tensor(frame: np.ndarray) -> Tensor:
    """(h, w, 3) uint8 -> (1, 3, h, w) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float().div_(255)
