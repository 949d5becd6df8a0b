"""A tiny decoder for previews: much faster than the autoencoder, and approximate.

The idea is that of Ollin Boer Bohan's TAESD (github.com/madebyollin/taesd): a small network without norms or attention
is trained to reproduce the output of one autoencoder's decoder. It is good enough for live previews, and never used for
the film itself.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from flickbook.diffusion.autoencoder import frames_of
from flickbook.diffusion.upsample import Upsample
from flickbook.diffusion.weights import load_weights
from flickbook.errors import WeightsError

#: Latents of unit size are meaningless beyond this in any autoencoder; as in TAESD, tanh limits them.
_LIMIT = 3.0


class Stage(nn.Module):
    """One size of the image: changes the channels, doubles the size except in the first stage, then refines."""

    def __init__(self, inside: int, out: int, grows: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inside, out, 3, padding=1)
        self.grow = Upsample(out) if grows else None
        self.refine = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) -> (n, out, h, w), or twice the height and width."""
        x = F.relu(self.enter(x))
        if self.grow is not None:
            x = F.relu(self.grow(x))
        return F.relu(x + self.refine(x))


class Sketch(nn.Module):
    """Latents (n, latent_channels, h, w) of about unit size -> images (n, 3, f * h, f * w) in about [-1, 1].

    One Stage for each of `widths`, each twice the size of the one before; the last doubling is a pixel shuffle (Shi et
    al. 2016, arXiv 1609.05158). So f is 2 to the power of their number.
    """

    def __init__(self, latent_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        inside = (latent_channels, *widths[:-1])
        self.stages = nn.Sequential(*(Stage(a, b, i > 0) for i, (a, b) in enumerate(zip(inside, widths, strict=True))))
        self.out = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = F.pixel_shuffle(self.out(self.stages(torch.tanh(z / _LIMIT) * _LIMIT)), 2)
        return out

    @torch.inference_mode()
    def draw(self, latents: Tensor) -> Tensor:
        """Latents (c, f, h, w) of one film -> frames (f, height, width, 3) uint8 on the CPU."""
        weight = self.out.weight
        pictures = latents.transpose(0, 1).to(weight).contiguous(memory_format=torch.channels_last)
        return frames_of(self(pictures))


def load_sketch(path: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Sketch:
    """Load a tiny decoder from a file whose header has the widths. Raises WeightsError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        channels, widths = int(metadata["latent_channels"]), tuple(map(int, metadata["widths"].split(",")))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(path, f"is no tiny decoder ({error})", "install flickbook again") from error
    sketch = load_weights(lambda: Sketch(channels, widths), path, dtype=dtype, device=device)
    return sketch.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
