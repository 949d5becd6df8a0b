"""Makes films longer than a model's training length: overlapping windows with shared noise.

In every step the network runs on each window of the film, and the outputs are blended where windows overlap
(MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113). The noise of later frames is that of earlier ones in another
order (FreeNoise, Qiu et al. 2023, arXiv 2310.15169), because windows that start from the same noise show the same
content. Shapes: n films, c channels, f frames, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flickbook.diffusion import text_to_video
from flickbook.windows import starts

#: (x (n, c, window, h, w), timestep, first frame of the window) -> the network's output in x's shape.
WindowModel = Callable[[Tensor, Tensor, int], Tensor]

#: Multiples of the golden ratio, modulo 1, are spread more evenly than those of any other number.
_GOLDEN = 0.618034


def share(window: int) -> Tensor:
    """The weight of each frame of a window in the blend, (window,): highest in the middle, never 0."""
    place = torch.arange(window, dtype=torch.float32)
    return torch.minimum(place + 1, window - place) / (window // 2 + 1)


def blended(
    model: WindowModel, frames: int, window: int, timesteps: Sequence[int] = (), stride: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn a model for `window` frames into one for whole films (n, c, frames, h, w).

    Windows are `stride` frames apart, half a window if that is 0. They shift in each of the `timesteps`, by the golden
    ratio of their distance, so that seams fall on other frames in each step and do not show.
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
    """Unit Gaussian latents (n, c, f, h, w), each film's from its own seed; `shape` is (c, f, h, w).

    Up to `window` frames are drawn. After that, each `stride` frames (half a window if 0) repeat those one window
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
    """Each film's generator in its state after `noise` has drawn the first latents; stochastic samplers draw their
    noise from it."""
    channels, frames, height, width = shape
    return text_to_video.generators(seeds, (channels, min(frames, window), height, width))
