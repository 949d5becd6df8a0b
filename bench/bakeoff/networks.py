"""Candidates beside the U-Net of the package: the same with a global branch, and a transformer over space-time tokens.

Both are called as `UNet3D` is. Shapes: b films, f frames, c channels, h height, w width, k prompts for each film.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion.attention import TransformerBlock, repeated
from flickbook.diffusion.unet3d import (
    MidBlock,
    Prompt,
    TimestepEmbedding,
    UNet3D,
    UNet3DConfig,
    UpBlock,
    timestep_embedding,
)

#: Side of a frame of the built-in model's latents, and of the transformer's patches.
_SIDE, _PATCH = 8, 2
_WIDTH, _DEPTH, _HEAD = 256, 8, 64


def places(frames: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions of the frames (f, 1, width)."""
    # One frame counts as 16 timesteps, so that the embeddings of neighbouring frames differ in many components.
    return timestep_embedding(torch.arange(frames, device=like.device) * 16, width).to(like.dtype)[:, None]


class GlobalBranch(nn.Module):
    """Every pixel of every frame attends to all others; the result is added to the input."""

    def __init__(self, channels: int, groups: int, pixels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, pixels, channels))
        self.block = TransformerBlock(channels, channels // 16, 16, None)
        self.proj_out = nn.Linear(channels, channels)
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x (b*f, c, h, w) -> (b*f, c, h, w)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2).unflatten(0, (-1, frames))  # (b, f, n, c)
        tokens = (tokens + places(frames, tokens.shape[-1], tokens) + self.position_embedding).flatten(1, 2)
        tokens = tokens + self.block.attn1(self.block.norm1(tokens))
        tokens = tokens + self.block.attn2(self.block.norm2(tokens))
        tokens = tokens + self.block.ff(self.block.norm3(tokens))
        out: Tensor = self.proj_out(tokens).unflatten(1, (frames, -1)).flatten(0, 1)
        return x + out.transpose(1, 2).reshape(x.shape)


class MidBlockWithGlobalBranch(MidBlock):
    """The smallest level with a global branch behind its transformers."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__(config)
        smallest = _SIDE >> (len(config.block_out_channels) - 1)
        self.branch = GlobalBranch(config.block_out_channels[-1], config.norm_num_groups, smallest**2)

    def forward(self, x: Tensor, time: Tensor, context: Prompt, frames: int) -> Tensor:
        x = self.branch(self.layer(0, x, time, context, frames), frames)
        return self.convolve(1, x, time, frames)


class UpBlockWithGlobalBranch(UpBlock):
    """The last level with a global branch behind it."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__(config, len(config.block_out_channels) - 1)
        self.branch = GlobalBranch(config.block_out_channels[0], config.norm_num_groups, _SIDE**2)

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Prompt, frames: int) -> Tensor:
        return self.branch(super().forward(x, skips, time, context, frames), frames)  # type: ignore[no-any-return]


class GlobalUNet(UNet3D):
    """The U-Net of the package with global branches in its smallest level and behind its last one.

    The temporal layers connect the same pixel of all frames, so an object that moves reaches its own other frames only
    through neighbours. A global branch connects them directly, and knows which frame is which.
    """

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__(config)
        self.mid_block = MidBlockWithGlobalBranch(config)
        self.up_blocks[-1] = UpBlockWithGlobalBranch(config)


class Layer(nn.Module):
    """Self-attention over all tokens of a film, attention to the prompt, feed-forward; shifted and scaled by the
    timestep (DiT, Peebles & Xie 2022, arXiv 2212.09748; its prompt as in PixArt, arXiv 2310.00426)."""

    def __init__(self, context_width: int) -> None:
        super().__init__()
        self.block = TransformerBlock(_WIDTH, _WIDTH // _HEAD, _HEAD, context_width)
        self.modulation = nn.Linear(_WIDTH, 6 * _WIDTH)
        for parameter in self.modulation.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, known: tuple[Tensor, Tensor]) -> Tensor:
        """x (b, f*n, width), time (b, width), keys and values of the prompts -> the same shape as x."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(F.silu(time))[:, None].chunk(6, dim=-1)
        x = x + (1 + gate) * self.block.attn1(self.block.norm1(x) * (1 + scale) + shift)
        x = x + self.block.attn2(self.block.norm2(x), known)
        out: Tensor = x + (1 + gate_2) * self.block.ff(self.block.norm3(x) * (1 + scale_2) + shift_2)
        return out


class SpaceTimeTransformer(nn.Module):
    """A transformer over patches of 2x2 latents of all frames. Its `config` is only read for the channels."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__()
        self.config = config
        inside = config.in_channels * _PATCH**2
        self.conv_in = nn.Linear(inside, _WIDTH)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, (_SIDE // _PATCH) ** 2, _WIDTH))
        self.time_embedding = TimestepEmbedding(_WIDTH, _WIDTH)
        layers = [Layer(config.cross_attention_dim) for _ in range(_DEPTH)]
        self.layers: Sequence[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.norm_out = nn.LayerNorm(_WIDTH)
        self.conv_out = nn.Linear(_WIDTH, config.out_channels * _PATCH**2)
        nn.init.zeros_(self.conv_out.weight)

    def prompt(self, context: Tensor) -> Prompt:
        """The keys and values of a prompt (b, tokens, context_width) in every layer."""
        return {layer: layer.block.attn2.keys_values(context) for layer in self.layers}

    def forward(self, x: Tensor, timestep: Tensor, context: Prompt, fps: Tensor | None = None) -> Tensor:
        """x (b, c, f, h, w), timestep (b,) or scalar, context (k*b, tokens, width) -> (k*b, c, f, h, w)."""
        known = context if isinstance(context, dict) else self.prompt(context)
        films, _, frames, height, width = x.shape
        rows, columns = height // _PATCH, width // _PATCH
        tokens = torch.unflatten(
            torch.unflatten(x, 3, (rows, _PATCH)), 5, (columns, _PATCH)
        )  # (b, c, f, rows, 2, columns, 2)
        tokens = self.conv_in(tokens.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3))  # (b, f, n, width)
        tokens = (tokens + places(frames, _WIDTH, tokens) + self.position_embedding).flatten(1, 2)
        embedding = timestep_embedding(timestep.reshape(-1).expand(films), _WIDTH)
        time = self.time_embedding(embedding.to(x.dtype))
        for layer in self.layers:
            keys, values = known[layer]
            tokens = layer(repeated(tokens, len(keys)), repeated(time, len(keys)), (keys, values))
        out = self.conv_out(self.norm_out(tokens)).unflatten(1, (frames, rows, columns))
        out = out.unflatten(-1, (-1, _PATCH, _PATCH)).permute(0, 4, 1, 2, 5, 3, 6)  # (b, c, f, rows, 2, columns, 2)
        return out.flatten(5).flatten(3, 4)  # type: ignore[no-any-return]
