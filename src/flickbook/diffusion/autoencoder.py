"""The image autoencoder of latent diffusion (Rombach et al. 2021, arXiv 2112.10752).

State-dict keys, configuration keys and mathematics are those of diffusers' `AutoencoderKL`. Films are encoded and
decoded frame by frame. Shapes in this file: n images, c channels, h height, w width. Each level but the last halves the
size, so with f = 2 ** (levels - 1) images (n, 3, h, w) become latents (n, latent_channels, h / f, w / f).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion.upsample import Upsample
from flickbook.errors import WeightsError

_DOWN, _UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
_EPS = 1e-6


@dataclass(frozen=True)
class AutoencoderConfig:
    """The fields of diffusers' `vae/config.json` that determine the network; the defaults are ModelScope's.

    `scaling_factor` is applied by the caller: the U-Net works on latents * scaling_factor.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = (_DOWN,) * 4
    up_block_types: tuple[str, ...] = (_UP,) * 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    #: Values of the published file that are fixed in this network; others are refused.
    FIXED = {"act_fn": "silu", "shift_factor": None, "latents_mean": None, "latents_std": None}
    #: Fields of the published file that do not affect the computation.
    IGNORED = frozenset({"sample_size", "force_upcast"})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: object = "vae/config.json") -> AutoencoderConfig:
        """Read a parsed `config.json`; `path` is only for messages. A missing field has diffusers' default.

        Raises WeightsError for a setting or a block type that this network does not have.
        """

        def refuse(reason: str) -> WeightsError:
            return WeightsError(path, reason, "use a model whose autoencoder is a plain AutoencoderKL")

        known = {field.name for field in fields(cls)}
        for name, value in values.items():
            if name in cls.FIXED and value != cls.FIXED[name]:
                raise refuse(f"{name}={value!r} where this network has {cls.FIXED[name]!r}")
            if not (name in known or name in cls.FIXED or name in cls.IGNORED or name.startswith("_")):
                raise refuse(f"{name} is not a setting of this network")
        # diffusers omits fields with its own default values, and those differ from ModelScope's.
        library = {"down_block_types": (_DOWN,), "up_block_types": (_UP,), "block_out_channels": (64,)}
        chosen: dict[str, Any] = {**library, "layers_per_block": 1}
        chosen.update((k, tuple(v) if isinstance(v, list) else v) for k, v in values.items() if k in known)
        config = cls(**chosen)
        unknown = {*config.down_block_types} - {_DOWN} | {*config.up_block_types} - {_UP}
        if unknown:
            raise refuse(f"block types {sorted(unknown)} where this network has only {_DOWN} and {_UP}")
        if not len(config.down_block_types) == len(config.up_block_types) == len(config.block_out_channels):
            raise refuse("down_block_types, up_block_types and block_out_channels differ in length")
        odd = [c for c in config.block_out_channels if c % config.norm_num_groups]
        if odd:
            raise refuse(f"block_out_channels {odd} cannot be split into norm_num_groups={config.norm_num_groups}")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The contents of `vae/config.json`."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"_class_name": "AutoencoderKL", **values, **self.FIXED, "sample_size": 32, "force_upcast": True}

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return int(2 ** (len(self.block_out_channels) - 1))


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | image) = N(mean, exp(logvar)), with independent elements; both are (n, latent_channels, h / f, w / f)."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The most probable latents: the mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + exp(logvar / 2) * noise. Noise is drawn on the generator's device, so a CPU seed is reproducible."""
        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean.device)


class ResnetBlock(nn.Module):
    """Norm, SiLU and convolution twice, with a shortcut: (n, inside, h, w) -> (n, out, h, w)."""

    def __init__(self, inside: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps=_EPS)
        self.conv1 = nn.Conv2d(inside, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=_EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inside, out, 1) if inside != out else None

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        shortcut: Tensor = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return hidden + shortcut


class Attention(nn.Module):
    """Attention with one head over all pixels of an image: (n, c, h, w) -> (n, c, h, w)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        # A head axis of size one, so that the fused kernels apply.
        tokens = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)  # (n, 1, h*w, c)
        attended = F.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        answer: Tensor = self.to_out[0](attended)
        return x + answer.view(len(x), height, width, -1).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Halves the size. Pads with zeros on the right and at the bottom only, as in the training of published weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Level(nn.Module):
    """Resnets at one size, then at most one change of size."""

    def __init__(self, inside: int, out: int, layers: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(inside if i == 0 else out, out, groups) for i in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x


class DownLevel(Level):
    """A level of the encoder."""

    def __init__(self, inside: int, out: int, layers: int, groups: int, last: bool) -> None:
        super().__init__(inside, out, layers, groups)
        self.downsamplers = None if last else nn.ModuleList([Downsample(out)])

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.downsamplers is None else self.downsamplers[0](x)


class UpLevel(Level):
    """A level of the decoder."""

    def __init__(self, inside: int, out: int, layers: int, groups: int, last: bool) -> None:
        super().__init__(inside, out, layers, groups)
        self.upsamplers = None if last else nn.ModuleList([Upsample(out)])

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(nn.Module):
    """The smallest size: resnet, attention if the configuration has it, resnet."""

    def __init__(self, channels: int, groups: int, attends: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([Attention(channels, groups)] if attends else [])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class Encoder(nn.Module):
    """Images (n, 3, h, w) -> means and log-variances, stacked (n, 2 * latent_channels, h / f, w / f)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        inside = (widths[0], *widths[:-1])
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownLevel(a, b, config.layers_per_block, groups, last=i == len(widths) - 1)
            for i, (a, b) in enumerate(zip(inside, widths, strict=True))
        )
        self.mid_block = MidBlock(widths[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """Latents (n, latent_channels, h / f, w / f) -> images (n, 3, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        inside = (widths[0], *widths[:-1])
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], groups, config.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            UpLevel(a, b, config.layers_per_block + 1, groups, last=i == len(widths) - 1)
            for i, (a, b) in enumerate(zip(inside, widths, strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


def frames_of(images: Tensor) -> Tensor:
    """Images (n, 3, h, w) in [-1, 1] -> (n, h, w, 3) uint8 on the CPU; values out of range are clipped."""
    levels = (images.float() / 2 + 0.5).clamp(0, 1) * 255
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


class Autoencoder(nn.Module):
    """Images to latents and back. All layers support channels-last memory: `.to(memory_format=torch.channels_last)`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent, latent, 1) if config.use_post_quant_conv else None

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """Images (n, 3, h, w) in [-1, 1], h and w multiples of the factor -> the distribution of their latents."""
        moments = self.encoder(images)
        moments = moments if self.quant_conv is None else self.quant_conv(moments)
        mean, logvar = moments.chunk(2, dim=1)
        # Outside these limits the exponential leaves float32's useful range.
        return DiagonalGaussian(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, latent_channels, h / f, w / f), unscaled -> images (n, 3, h, w), near [-1, 1], not clipped."""
        images: Tensor = self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))
        return images

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, DiagonalGaussian]:
        """One training pass: the reconstruction (n, 3, h, w) from sampled latents, and their distribution."""
        latents = self.encode(images)
        return self.decode(latents.sample(generator)), latents


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def autoencoder_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys of a published file -> keys here. Old files name attention's layers query, key, value and proj_attn."""
    renamed = {}
    for key in keys:
        parts = key.split(".")
        if len(parts) > 2 and "attentions" in parts and parts[-2] in _OLD_ATTENTION:
            parts[-2] = _OLD_ATTENTION[parts[-2]]
        renamed[key] = ".".join(parts)
    return renamed
