"""Films longer than a model was trained for: overlapping windows that share their noise.

Every step asks the network about each window of the film by itself and blends the answers where windows overlap
(MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113). The noise of later frames is that of earlier ones in another
order (FreeNoise, Qiu et al. 2023, arXiv 2310.15169): windows that start from the same noise make the same things.
Shapes: n films, c channels, f frames, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flickbook.diffusion import text_to_video
from flickbook.windows import starts

#: (x (n, c, window, h, w), timestep, first frame of the window) -> the network's answer in x's shape.
WindowModel = Callable[[Tensor, Tensor, int], Tensor]

#: Places that are multiples of it, taken round a circle, spread more evenly than any others.
_GOLDEN = 0.618034


def share(window: int) -> Tensor:
    """How much each frame of a window counts in the blend, (window,): most in the middle, never nothing."""
    place = torch.arange(window, dtype=torch.float32)
    return torch.minimum(place + 1, window - place) / (window // 2 + 1)


def blended(
    model: WindowModel, frames: int, window: int, timesteps: Sequence[int] = (), stride: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """A model of whole films (n, c, frames, h, w) out of one that knows `window` frames.

    Windows are `stride` frames apart, half a window where that is 0. From one of `timesteps` to the next the windows
    move, by the golden section of the way to the next one: a seam that lies elsewhere in each step is no seam.
    """
    weight, apart = share(min(window, frames)), stride or window // 2

    def whole(x: Tensor, timestep: Tensor) -> Tensor:
        if frames <= window:
            return model(x, timestep, 0)
        step = timesteps.index(int(timestep)) if timesteps else 0
        begins = starts(frames, window, int(step * _GOLDEN * apart) % apart, apart)
        counts = weight.to(x)[:, None, None]
        total, answer = torch.zeros(frames, 1, 1, dtype=x.dtype, device=x.device), torch.zeros_like(x)
        for start in begins:
            part = slice(start, start + window)
            answer[:, :, part] += counts * model(x[:, :, part], timestep, start)
            total[part] += counts
        return answer / total

    return whole


def noise(seeds: Sequence[int], shape: tuple[int, int, int, int], window: int, stride: int = 0) -> Tensor:
    """Unit Gaussian latents (n, c, f, h, w), each film from its own seed; `shape` is (c, f, h, w).

    Up to `window` frames they are drawn. After that, each `stride` frames (0: half a window) repeat those one window
    before them in a random order (FreeNoise, Qiu et al. 2023, arXiv 2310.15169).
    """
    channels, frames, height, width = shape
    first = text_to_video.noise(seeds, (channels, min(frames, window), height, width))
    films = []
    for seed, made in zip(seeds, first, strict=True):
        lot, apart = torch.Generator().manual_seed(seed), stride or window // 2
        while made.shape[1] < frames:
            order = torch.randperm(apart, generator=lot) + (made.shape[1] - window)
            made = torch.cat([made, made[:, order]], dim=1)
        films.append(made[:, :frames])
    return torch.stack(films)


def generators(seeds: Sequence[int], shape: tuple[int, int, int, int], window: int) -> list[torch.Generator]:
    """Each film's generator as it is once `noise` has drawn the film's first latents: a sampler that adds noise draws
    its noise from it."""
    channels, frames, height, width = shape
    return text_to_video.generators(seeds, (channels, min(frames, window), height, width))
