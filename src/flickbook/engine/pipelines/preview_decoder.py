"""Tiny causal decoders of video latents, for previews of large models.

The layout of the files is the one that Ollin Boer Bohan publishes as TAEHV (github.com/madebyollin/taehv, MIT):
`taew2_1`, `taew2_2`, `taehv`, `taehv1_5`, `taeltx_2`, `taeltx2_3` and `taecvx`, as safetensors. Their encoders are not
read. The shapes of the weights tell the channels, the growth in time and the size of the last pixel shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from flickbook.errors import WeightsError

_LIMIT = 3.0  # tanh limits latents to this
_BLOCKS, _LEVELS = 3, 3
#: The decoder's modules by index: the first convolution, the convolutions in time and between levels, the last one.
_FIRST, _GROW, _BETWEEN, _LAST = 1, (7, 13, 19), (8, 14, 20), 22
_KEPT = "decoder."


class _Bound(nn.Module):
    """Limits values smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / _LIMIT) * _LIMIT


class MemoryBlock(nn.Module):
    """A residual block that also sees its own input of the frame before: (n, c, h, w) twice -> (n, c, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = (2 * width, width, width)
        steps = [layer for c in inside for layer in (nn.Conv2d(c, width, 3, padding=1), nn.ReLU(inplace=True))]
        self.conv = nn.Sequential(*steps[:-1])

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """The block's output for a frame `x` that follows `before`."""
        return F.relu(self.conv(torch.cat([x, before], 1)).add_(x), inplace=True)


class Grow(nn.Module):
    """Makes `times` frames of one: (n, c, h, w) -> (n * times, c, h, w), the frames of each row in order."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(width, width * times, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The frames after each frame of `x`."""
        out: Tensor = self.conv(x)
        return out.reshape(-1, *x.shape[1:])


class PreviewDecoder(nn.Module):
    """Latents as the denoiser has them -> frames. `times` is the growth in time of each level, `patch` the side of the
    square of pixels in one output. One latent is `space` pixels wide and high, and `time` frames long."""

    def __init__(self, channels: int, widths: tuple[int, ...], times: tuple[int, ...], patch: int) -> None:
        super().__init__()
        self.channels, self.patch = channels, patch
        self.time, self.space = math.prod(times), 2**_LEVELS * patch
        layers: list[nn.Module] = [_Bound(), nn.Conv2d(channels, widths[0], 3, padding=1), nn.ReLU(inplace=True)]
        for width, after, grows in zip(widths, widths[1:], times, strict=False):
            layers += [MemoryBlock(width) for _ in range(_BLOCKS)]
            layers += [nn.Upsample(scale_factor=2), Grow(width, grows)]
            layers.append(nn.Conv2d(width, after, 3, padding=1, bias=False))
        self.decoder = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Conv2d(widths[-1], 3 * patch**2, 3, padding=1))

    def forward(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield the frames (3, height, width) in 0 to 1 of latents (c, f, h, w), one by one; only one frame of each
        level is held. The first `time` - 1 frames, which no autoencoder of these models has, are left out."""
        memory: dict[int, Tensor] = {}
        number = 0
        weight = next(self.parameters())
        for frame in latents.transpose(0, 1).to(weight):
            for image in self._frames(frame[None], 0, memory):
                number += 1
                if number >= self.time:
                    yield F.pixel_shuffle(image, self.patch)[0].clamp(0, 1)

    def _frames(self, x: Tensor, index: int, memory: dict[int, Tensor]) -> Iterator[Tensor]:
        """The outputs for one frame from layer `index` on. `memory` has the last input of each MemoryBlock."""
        for place in range(index, len(self.decoder)):
            layer = self.decoder[place]
            if isinstance(layer, Grow):
                x = layer(x)  # not in the line below, so that the layer's input is freed
                for each in x[:, None]:
                    yield from self._frames(each, place + 1, memory)
                return
            if isinstance(layer, MemoryBlock):
                before, memory[place] = memory.get(place, torch.zeros_like(x)), x
                x = layer(x, before)
            else:
                x = layer(x)
        yield x

    def fits(self, pipe: Any) -> bool:
        """Whether it decodes the latents of a pipeline of diffusers: their channels, and their size in pixels."""
        config = pipe.vae.config
        space = getattr(pipe, "vae_scale_factor_spatial", getattr(pipe, "vae_spatial_compression_ratio", None))
        time = getattr(pipe, "vae_scale_factor_temporal", getattr(pipe, "vae_temporal_compression_ratio", None))
        channels = config.get("latent_channels") or config.get("z_dim")
        return (self.channels, self.space, self.time) == (channels, space, time)

    @torch.inference_mode()
    def draw(self, latents: Tensor) -> Tensor:
        """Latents (c, f, h, w) of one film -> frames (time * (f - 1) + 1, height, width, 3) uint8 on the CPU."""
        frames = [(frame * 255).round().to(torch.uint8).permute(1, 2, 0).cpu() for frame in self(latents)]
        return torch.stack(frames)


def load_preview_decoder(path: Path, dtype: torch.dtype, device: str | torch.device) -> PreviewDecoder:
    """Load a decoder; the shapes in the file decide its size. Raises WeightsError for another layout."""
    remedy = "delete it, or replace it with the file that its model's entry names"
    try:
        tensors = {name: value for name, value in load_file(path).items() if name.startswith(_KEPT)}
        first, last = tensors[f"{_KEPT}{_FIRST}.weight"], tensors[f"{_KEPT}{_LAST}.weight"]
        widths = (first.shape[0], *(tensors[f"{_KEPT}{place}.weight"].shape[0] for place in _BETWEEN))
        grows = [tensors[f"{_KEPT}{place}.conv.weight"].shape for place in _GROW]
        times = tuple(out // inside for out, inside, *_ in grows)
        decoder = PreviewDecoder(first.shape[1], widths, times, math.isqrt(last.shape[0] // 3))
        decoder.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, ValueError, IndexError, RuntimeError) as error:
        reason = f"is no preview decoder in the layout of TAEHV ({type(error).__name__})"
        raise WeightsError(path, reason, remedy) from error
    return decoder.to(device, dtype).eval()
