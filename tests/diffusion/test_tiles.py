"""Tiles: one is exact, several leave no seam."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flickbook.diffusion.tiles import OVERLAP, TILE, decode_in_tiles


def enlarge(latents: Tensor) -> Tensor:
    """A decoder that looks at its neighbours: the first three channels, four times as large, smoothed."""
    return F.interpolate(latents[:, :3], scale_factor=4, mode="bilinear", align_corners=False)


def test_a_small_picture_is_one_tile() -> None:
    latents = torch.randn(2, 4, TILE, 8)
    assert torch.equal(decode_in_tiles(enlarge, latents, 4), enlarge(latents))


def test_many_tiles_make_the_picture_that_one_would() -> None:
    latents = torch.randn(1, 4, 2 * TILE + 5, TILE + 1)
    whole, tiled = enlarge(latents), decode_in_tiles(enlarge, latents, 4)
    assert tiled.shape == whole.shape
    # A tile's own border differs by what it cannot see, and counts least there.
    assert (tiled - whole).abs().max() < 1 / OVERLAP
    assert (tiled - whole).abs().mean() < 1e-2
