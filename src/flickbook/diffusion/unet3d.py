"""The 3D U-Net of ModelScope's text-to-video (Wang et al. 2023, arXiv 2308.06571) in one file.

State-dict keys and mathematics are those of diffusers' `UNet3DConditionModel`; the code is not. Everywhere inside, a
film is one tensor `(films * frames, channels, height, width)` in channels-last memory, which is the same memory as
`(films, frames, height, width, channels)`. So the three kinds of layer read the same bytes without a copy: 2D
convolutions see images, attention sees tokens, and the temporal convolution (a `Conv3d(3, 1, 1)` by its weights) is a
`Conv2d` over (frames, pixels).

Shapes in this file: b films, f frames, c channels, h height, w width, n = h * w pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion.attention import TransformerBlock, repeated, weight_of
from flickbook.diffusion.upsample import Upsample
from flickbook.errors import WeightsError

_CROSS_DOWN, _PLAIN_DOWN = "CrossAttnDownBlock3D", "DownBlock3D"
_CROSS_UP, _PLAIN_UP = "CrossAttnUpBlock3D", "UpBlock3D"

#: A prompt embedding (b, tokens, cross_attention_dim), or the keys and values that `UNet3D.prompt` computed from it.
Prompt = Tensor | dict[nn.Module, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class UNet3DConfig:
    """The fields of diffusers' `unet/config.json` that determine the network; the defaults are ModelScope's.

    `attention_head_dim` is the width of one head (the field has that name in the published file). Four fields are not
    diffusers' own: `fps_cond`, a second embedding next to that of the timestep, for frames per second (VideoCrafter2);
    `frame_positions`, sinusoidal frame positions before each temporal attention, off in every published model;
    `relative_positions`, the largest distance in frames that temporal attention distinguishes, 0 without relative
    positions; and `temporal_convs`, whether a temporal convolution follows each resnet (VideoCrafter1: 16, and none).
    """

    sample_size: int | None = 32
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = (_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, _PLAIN_DOWN)
    up_block_types: tuple[str, ...] = (_PLAIN_UP, _CROSS_UP, _CROSS_UP, _CROSS_UP)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1024
    attention_head_dim: int = 64
    fps_cond: bool = False
    frame_positions: bool = False
    relative_positions: int = 0
    temporal_convs: bool = True

    #: The fields that are not diffusers' own; diffusers' network has all of them at their defaults.
    OWN = ("fps_cond", "frame_positions", "relative_positions", "temporal_convs")
    #: Values of the published file that are fixed in this network; others are refused.
    FIXED = {"act_fn": "silu", "downsample_padding": 1, "mid_block_scale_factor": 1}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: object = "unet/config.json") -> UNet3DConfig:
        """Read a parsed `config.json`; `path` is only for messages. Raises WeightsError for another kind of network."""
        fixed = {**cls.FIXED, "num_attention_heads": None, "time_cond_proj_dim": None}
        faults = [f"{k}={values[k]!r} where this network has {v!r}" for k, v in fixed.items() if values.get(k, v) != v]
        known = {field.name for field in fields(cls)}
        chosen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        config = cls(**chosen)
        blocks = {*config.down_block_types} - {_CROSS_DOWN, _PLAIN_DOWN}
        blocks |= {*config.up_block_types} - {_CROSS_UP, _PLAIN_UP}
        if blocks:
            faults.append(f"block types {sorted(blocks)} where this network has those of text-to-video-ms-1.7b")
        if not len(config.down_block_types) == len(config.up_block_types) == len(config.block_out_channels):
            faults.append("down_block_types, up_block_types and block_out_channels differ in length")
        if odd := [c for c in config.block_out_channels if c % config.norm_num_groups]:
            faults.append(f"block_out_channels {odd} cannot be split into norm_num_groups={config.norm_num_groups}")
        reach = config.relative_positions
        if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
            faults.append(f"relative_positions={reach!r} where this network has a number of frames, or 0")
        if faults:
            raise WeightsError(path, "; ".join(faults), "use a model of text-to-video-ms-1.7b's kind")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The contents of `unet/config.json`. With a field that is not diffusers' own, the class name is this
        project's, so that stock diffusers refuses the file instead of misreading it."""
        values: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        own = {name: value for name in self.OWN if (value := values.pop(name)) != getattr(UNet3DConfig, name)}
        name = "FlickbookUNet3DModel" if own else "UNet3DConditionModel"
        return {"_class_name": name, **values, **self.FIXED, **own}


def timestep_embedding(timestep: Tensor, width: int) -> Tensor:
    """Sinusoids of the timestep, cosines first: (b,) -> (b, width), float32."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=timestep.device, dtype=torch.float32) / half)
    angle = timestep.float()[:, None] * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimestepEmbedding(nn.Module):
    """Two linear layers on the sinusoids: (b, width) -> (b, out)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))  # type: ignore[no-any-return]


class SpatialTransformer(nn.Module):
    """Each frame's pixels attend to one another and to the prompt (diffusers' `Transformer2DModel`)."""

    def __init__(self, channels: int, heads: int, head_dim: int, context_width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, heads * head_dim)
        blocks = [TransformerBlock(heads * head_dim, heads, head_dim, context_width)]
        self.transformer_blocks: Sequence[TransformerBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.proj_out = nn.Linear(heads * head_dim, channels)

    def forward(self, x: Tensor, context: Prompt, frames: int) -> Tensor:
        """x (b*f, c, h, w), context (b, tokens, width) or its keys and values -> (b*f, c, h, w).

        With k * b contexts each film attends to k of them, and k * b films are returned: everything before the
        cross-attention is computed once.
        """
        height, width = x.shape[-2:]
        tokens = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))  # (b*f, n, c)
        block = self.transformer_blocks[0]
        tokens = tokens + block.attn1(block.norm1(tokens))
        # The prompt is the same for all frames of a film, so all f * n pixels of a film attend to it in one call.
        asking = block.norm2(tokens).unflatten(0, (-1, frames)).flatten(1, 2)  # (b, f*n, c)
        known = context[self] if isinstance(context, dict) else block.attn2.keys_values(context)
        answer = block.attn2(asking, known)
        answer = answer.unflatten(1, (frames, -1)).flatten(0, 1)  # (k*b*f, n, c)
        tokens = repeated(tokens, len(answer)) + answer
        tokens = tokens + block.ff(block.norm3(tokens))
        out: Tensor = self.proj_out(tokens).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return repeated(x, len(out)) + out


class TemporalTransformer(nn.Module):
    """Each pixel attends to itself in the other frames (diffusers' `TransformerTemporalModel`)."""

    def __init__(
        self, channels: int, heads: int, head_dim: int, groups: int, frame_positions: bool, reach: int = 0
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, heads * head_dim)
        blocks = [TransformerBlock(heads * head_dim, heads, head_dim, None, reach)]
        self.transformer_blocks: Sequence[TransformerBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.proj_out = nn.Linear(heads * head_dim, channels)
        self.frame_positions = frame_positions

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x (b*f, c, h, w) -> (b*f, c, h, w)."""
        film = torch.unflatten(x.permute(0, 2, 3, 1), 0, (-1, frames)).flatten(2, 3)  # (b, f, n, c)
        # The norm is over all frames of a film, so it sees the film as one wide image.
        normed = self.norm(film.permute(0, 3, 1, 2)).permute(0, 3, 2, 1)  # (b, n, f, c)
        tokens = self.proj_in(normed)
        block = self.transformer_blocks[0]
        place = self._places(tokens) if self.frame_positions else 0.0
        tokens = tokens + block.attn1(block.norm1(tokens) + place)
        tokens = tokens + block.attn2(block.norm2(tokens) + place)
        tokens = tokens + block.ff(block.norm3(tokens))
        out: Tensor = film + self.proj_out(tokens).transpose(1, 2)
        return out.reshape(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)

    @staticmethod
    def _places(tokens: Tensor) -> Tensor:
        """Sinusoidal frame positions (f, c), as the motion modules of AnimateDiff have (arXiv 2307.04725)."""
        frames, width = tokens.shape[-2:]
        return timestep_embedding(torch.arange(frames, device=tokens.device), width).to(tokens.dtype)


class TemporalConv(nn.Module):
    """Four convolutions along the frames, added to the input (diffusers' `TemporalConvLayer`)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        for place in range(1, 5):
            # Identity layers keep the published keys, which number the layers: only the norm and convolution have any.
            gap = [nn.Identity()] if place > 1 else []
            conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            setattr(self, f"conv{place}", nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), *gap, conv))
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x (b*f, c, h, w) -> (b*f, c, h, w)."""
        film = torch.unflatten(x.permute(0, 2, 3, 1), 0, (-1, frames)).flatten(2, 3).permute(0, 3, 1, 2)  # (b, c, f, n)
        hidden = film
        for place in range(1, 5):
            norm, *_, conv = getattr(self, f"conv{place}")
            hidden = self._along(conv, F.silu(norm(hidden)))
        out = (film + hidden).permute(0, 2, 3, 1)
        return out.reshape(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)

    @staticmethod
    def _along(conv: nn.Module, film: Tensor) -> Tensor:
        """The convolution over the frames of (b, c, f, n)."""
        if not isinstance(getattr(conv, "base_layer", conv), nn.Conv3d):  # packed
            return conv(film)  # type: ignore[no-any-return]
        weight = weight_of(conv).squeeze(-1)  # (c, c, 3, 1)
        if film.shape[2] == 1:  # the outer taps see only padding
            return F.conv2d(film, weight[:, :, 1:2], conv.bias)  # type: ignore[arg-type]
        return F.conv2d(film, weight, conv.bias, padding=(1, 0))  # type: ignore[arg-type]


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with the timestep added between them (diffusers' `ResnetBlock2D`)."""

    def __init__(self, inside: int, out: int, time_width: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps=eps)
        self.conv1 = nn.Conv2d(inside, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, out)
        self.norm2 = nn.GroupNorm(groups, out, eps=eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inside, out, 1) if inside != out else None

    def forward(self, x: Tensor, time: Tensor, frames: int) -> Tensor:
        """x (k*b*f, c, h, w), time (b, 1 or f, time_width) -> (k*b*f, out, h, w)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        shift = self.time_emb_proj(F.silu(time)).expand(-1, frames, -1).flatten(0, 1)
        hidden = hidden + repeated(shift, len(hidden))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2; its weights have the key `conv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """A level of the U-Net, `layers` times: resnet, temporal convolution if any, and with a prompt two transformers."""

    def __init__(self, config: UNet3DConfig, widths: list[tuple[int, int]], attends: bool) -> None:
        super().__init__()
        time, groups, eps = 4 * config.block_out_channels[0], config.norm_num_groups, config.norm_eps
        out, head = widths[-1][1], config.attention_head_dim
        self.resnets = nn.ModuleList([ResnetBlock(a, b, time, groups, eps) for a, b in widths])
        convs = config.temporal_convs
        self.temp_convs = nn.ModuleList([TemporalConv(b, groups) for _, b in widths]) if convs else None
        if attends:
            spatial = [SpatialTransformer(out, out // head, head, config.cross_attention_dim, groups) for _ in widths]
            places = (config.frame_positions, config.relative_positions)
            temporal = [TemporalTransformer(out, out // head, head, groups, *places) for _ in widths]
            self.attentions, self.temp_attentions = nn.ModuleList(spatial), nn.ModuleList(temporal)
        self.attends = attends

    def layer(self, i: int, x: Tensor, time: Tensor, context: Prompt, frames: int) -> Tensor:
        x = self.convolve(i, x, time, frames)
        return self.attend(i, x, context, frames) if self.attends else x

    def convolve(self, i: int, x: Tensor, time: Tensor, frames: int) -> Tensor:
        x = self.resnets[i](x, time, frames)
        return x if self.temp_convs is None else self.temp_convs[i](x, frames)

    def attend(self, i: int, x: Tensor, context: Prompt, frames: int) -> Tensor:
        return self.temp_attentions[i](self.attentions[i](x, context, frames), frames)  # type: ignore[no-any-return]


class DownBlock(Block):
    """Layers, then half the size except in the last level. Returns the output and the skip connections."""

    def __init__(self, config: UNet3DConfig, level: int) -> None:
        channels = config.block_out_channels
        first, out = channels[max(level - 1, 0)], channels[level]
        widths = [(first if i == 0 else out, out) for i in range(config.layers_per_block)]
        super().__init__(config, widths, config.down_block_types[level] == _CROSS_DOWN)
        last = level == len(channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Downsample(out)])

    def forward(self, x: Tensor, time: Tensor, context: Prompt, frames: int) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, context, frames)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class MidBlock(Block):
    """The smallest level: a layer, then a second resnet with its temporal convolution."""

    def __init__(self, config: UNet3DConfig) -> None:
        width = config.block_out_channels[-1]
        super().__init__(config, [(width, width)] * 2, attends=True)
        # Two resnets, one pair of transformers between them.
        del self.attentions[1], self.temp_attentions[1]

    def forward(self, x: Tensor, time: Tensor, context: Prompt, frames: int) -> Tensor:
        x = self.layer(0, x, time, context, frames)
        return self.convolve(1, x, time, frames)


class UpBlock(Block):
    """Layers that each take one skip connection, then twice the size except in the last level."""

    def __init__(self, config: UNet3DConfig, place: int) -> None:
        channels = config.block_out_channels[::-1]
        before, out = channels[max(place - 1, 0)], channels[place]
        skip_last, count = channels[min(place + 1, len(channels) - 1)], config.layers_per_block + 1
        widths = [((before if i == 0 else out) + (skip_last if i == count - 1 else out), out) for i in range(count)]
        super().__init__(config, widths, config.up_block_types[place] == _CROSS_UP)
        last = place == len(channels) - 1
        self.upsamplers = None if last else nn.ModuleList([Upsample(out)])

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Prompt, frames: int) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, repeated(skips.pop(), len(x))], dim=1), time, context, frames)
        # Sizes that do not halve evenly are restored to the size of the next skip connection.
        return x if self.upsamplers is None else self.upsamplers[0](x, skips[-1].shape[-2:])


class UNet3D(nn.Module):
    """Predicts eps, v or x0 (by the scheduler's setting) from noisy latents, a timestep and a prompt."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__()
        self.config = config
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], 4 * channels[0])
        self.fps_embedding = TimestepEmbedding(channels[0], 4 * channels[0]) if config.fps_cond else None
        # Eight heads at any width, as in the published network.
        places = (config.frame_positions, config.relative_positions)
        self.transformer_in = TemporalTransformer(channels[0], 8, config.attention_head_dim, groups, *places)
        self.down_blocks = nn.ModuleList([DownBlock(config, i) for i in range(len(channels))])
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList([UpBlock(config, i) for i in range(len(channels))])
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def prompt(self, context: Tensor) -> Prompt:
        """The keys and values of a prompt (b, tokens, cross_attention_dim) in every layer, which all steps share."""
        layers = [module for module in self.modules() if isinstance(module, SpatialTransformer)]
        return {layer: layer.transformer_blocks[0].attn2.keys_values(context) for layer in layers}

    def forward(self, x: Tensor, timestep: Tensor, context: Prompt, fps: Tensor | None = None) -> Tensor:
        """x (b, c, f, h, w), timestep (b, f), (b,) or scalar, context as in `Prompt` -> (b, c, f, h, w).

        With a context of k * b prompts, k for each film, the result is (k * b, c, f, h, w): everything before the first
        cross-attention is computed once. `fps` (b,), frames per second, is for networks with `fps_cond`.
        """
        films, _, frames, height, width = x.shape
        width = self.config.block_out_channels[0]
        rows = timestep if timestep.ndim == 2 else timestep.reshape(-1, 1).expand(films, 1)
        time = timestep_embedding(rows.reshape(-1), width).unflatten(0, rows.shape)  # type: ignore[no-untyped-call]
        time = self.time_embedding(time.to(self.conv_in.weight.dtype))
        if self.fps_embedding is not None:
            assert fps is not None, "this network wants to know the frames a second"
            rate = timestep_embedding(fps.reshape(-1).expand(films), width)
            time = time + self.fps_embedding(rate.to(self.conv_in.weight.dtype))[:, None]
        # (b, c, f, h, w) -> (b*f, c, h, w) whose memory is (b, f, h, w, c)
        hidden = x.permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1).permute(0, 3, 1, 2)
        hidden = self.transformer_in(self.conv_in(hidden), frames)
        skips = [hidden]
        for down in self.down_blocks:
            hidden, kept = down(hidden, time, context, frames)
            skips += kept
        hidden = self.mid_block(hidden, time, context, frames)
        for up in self.up_blocks:
            hidden = up(hidden, skips, time, context, frames)
        out = self.conv_out(F.silu(self.conv_norm_out(hidden)))
        return torch.unflatten(out, 0, (-1, frames)).transpose(1, 2).contiguous()
