"""Pictures decoded in tiles that overlap, for sizes whose autoencoder needs more memory than there is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Latents along a tile's side, and how many of them two neighbours share.
TILE, OVERLAP = 32, 8


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents: Tensor, factor: int) -> Tensor:
    """(n, c, h, w) latents -> (n, 3, h * factor, w * factor), tile by tile; one fades into the next where they overlap.

    What a tile's border cannot see of its neighbours is what the fading hides; a picture of one tile is exact.
    """
    height, width = latents.shape[-2:]
    rows, columns = _starts(height), _starts(width)
    if len(rows) == len(columns) == 1:
        return decode(latents)
    total = torch.zeros(len(latents), 3, height * factor, width * factor, device=latents.device)
    weight = torch.zeros(1, 1, height * factor, width * factor, device=latents.device)
    for top in rows:
        for left in columns:
            part = latents[..., top : top + TILE, left : left + TILE]
            tile = decode(part).float()
            down = _fade(tile.shape[-2], factor, top == 0, top == rows[-1])
            across = _fade(tile.shape[-1], factor, left == 0, left == columns[-1])
            fade = down[:, None] * across
            place = (
                ...,
                slice(top * factor, top * factor + tile.shape[-2]),
                slice(left * factor, left * factor + tile.shape[-1]),
            )
            total[place] += tile * fade.to(tile)
            weight[place] += fade.to(tile)
    return total / weight


def _starts(length: int) -> list[int]:
    """Where tiles begin along a side: the last one ends with it."""
    if length <= TILE:
        return [0]
    return [*range(0, length - TILE, TILE - OVERLAP), length - TILE]


def _fade(length: int, factor: int, first: bool, last: bool) -> Tensor:
    """How much each pixel along a tile's side counts: less towards an end that has a neighbour, never nothing."""
    place, ramp = torch.arange(length, dtype=torch.float32), float(OVERLAP * factor)
    rising = torch.full_like(place, ramp) if first else place + 1
    falling = torch.full_like(place, ramp) if last else length - place
    return (torch.minimum(rising, falling) / ramp).clamp(max=1.0)
