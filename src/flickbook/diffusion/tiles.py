"""Decodes images in overlapping tiles, for sizes at which the autoencoder needs more memory than there is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Latents along a tile's side, and the overlap of two neighbours.
TILE, OVERLAP = 32, 8


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents: Tensor, factor: int) -> Tensor:
    """(n, c, h, w) latents -> (n, 3, h * factor, w * factor), tile by tile, blended where tiles overlap.

    Blending hides that a tile's border does not see its neighbours. An image of one tile is exact.
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
    """The start of each tile along a side; the last tile ends at the border."""
    if length <= TILE:
        return [0]
    return [*range(0, length - TILE, TILE - OVERLAP), length - TILE]


def _fade(length: int, factor: int, first: bool, last: bool) -> Tensor:
    """The weight of each pixel along a tile's side: lower towards a neighbour, never 0."""
    place, ramp = torch.arange(length, dtype=torch.float32), float(OVERLAP * factor)
    rising = torch.full_like(place, ramp) if first else place + 1
    falling = torch.full_like(place, ramp) if last else length - place
    return (torch.minimum(rising, falling) / ramp).clamp(max=1.0)
