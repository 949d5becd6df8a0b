"""Converts VideoCrafter's `model.ckpt` to a directory in the diffusers layout.

Its three networks are those of text-to-video-ms-1.7b under the names of older code bases (latent diffusion's U-Net
and autoencoder, open_clip's text tower), with differences between versions: an embedding of the frame rate, a signal
that is scaled down at high noise levels, and in version 1 relative positions instead of temporal convolutions.
Names: Chen et al. 2023 and 2024 (arXiv 2310.19512 and 2401.09047) and their published code. That code loads a
checkpoint only if its names match the configuration exactly, so unknown names are refused here too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flickbook.errors import WeightsError, escaped
from flickbook.hub.checkpoint import Checkpoint, Piece, convert

_LEVELS, _LAYERS = 4, 2
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: Names inside a residual block of the U-Net.
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
#: Names inside a temporal convolution and inside a transformer, equal on both sides.
_CONVOLUTION = [f"conv{place}.{each}" for place in range(1, 5) for each in (0, 2 if place == 1 else 3)]
_BLOCK = "transformer_blocks.0"
_TRANSFORMER = ["norm", "proj_in", "proj_out", *(f"{_BLOCK}.norm{i}" for i in (1, 2, 3))]
_TRANSFORMER += [f"{_BLOCK}.{each}" for each in ("attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2")]
_UNBIASED = [f"{_BLOCK}.attn{i}.to_{each}.weight" for i in (1, 2) for each in "qkv"]
_RELATIVE = [f"{_BLOCK}.attn{i}.relative_position_{each}.embeddings_table" for i in (1, 2) for each in "kv"]
#: Names of the autoencoder after renaming.
_RES = r"resnets\.\d\.(norm1|conv1|norm2|conv2|conv_shortcut)"
_VAE = re.compile(
    rf"((en|de)coder\.(conv_in|conv_norm_out|conv_out|(down|up)_blocks\.\d\.({_RES}|(down|up)samplers\.0\.conv)"
    rf"|mid_block\.({_RES}|attentions\.0\.(group_norm|to_[qkv]|to_out\.0)))|(post_)?quant_conv)\.(weight|bias)"
)
#: Other contents of a checkpoint: tables of the noise schedule, and averages of the weights.
_BESIDE = re.compile(r"[^.]+|model_ema\..*")


def _places() -> dict[str, tuple[str, str]]:
    """Block of the checkpoint's U-Net -> (block in diffusers, and for a residual block its temporal convolution)."""
    found: dict[str, tuple[str, str]] = {}
    for level in range(_LEVELS):
        for layer in range(_LAYERS):
            block, ours = f"input_blocks.{1 + 3 * level + layer}", f"down_blocks.{level}"
            found[f"{block}.0"] = (f"{ours}.resnets.{layer}", f"{ours}.temp_convs.{layer}")
            if level < _LEVELS - 1:
                found[f"{block}.1"] = (f"{ours}.attentions.{layer}", "")
                found[f"{block}.2"] = (f"{ours}.temp_attentions.{layer}", "")
        if level < _LEVELS - 1:
            found[f"input_blocks.{3 + 3 * level}.0.op"] = (f"down_blocks.{level}.downsamplers.0.conv", "")
    for level in range(_LEVELS):
        for layer in range(_LAYERS + 1):
            block, ours = f"output_blocks.{3 * level + layer}", f"up_blocks.{level}"
            found[f"{block}.0"] = (f"{ours}.resnets.{layer}", f"{ours}.temp_convs.{layer}")
            if level:
                found[f"{block}.1"] = (f"{ours}.attentions.{layer}", "")
                found[f"{block}.2"] = (f"{ours}.temp_attentions.{layer}", "")
    # The first up block has no attention, so its upsampler has an earlier index.
    for block, level in (("output_blocks.2.1", 0), ("output_blocks.5.3", 1), ("output_blocks.8.3", 2)):
        found[f"{block}.conv"] = (f"up_blocks.{level}.upsamplers.0.conv", "")
    found |= {
        "middle_block.0": ("mid_block.resnets.0", "mid_block.temp_convs.0"),
        "middle_block.1": ("mid_block.attentions.0", ""),
        "middle_block.2": ("mid_block.temp_attentions.0", ""),
        "middle_block.3": ("mid_block.resnets.1", "mid_block.temp_convs.1"),
        "input_blocks.0.0": ("conv_in", ""),
        "init_attn.0": ("transformer_in", ""),
        "time_embed.0": ("time_embedding.linear_1", ""),
        "time_embed.2": ("time_embedding.linear_2", ""),
        "fps_embedding.0": ("fps_embedding.linear_1", ""),
        "fps_embedding.2": ("fps_embedding.linear_2", ""),
        "out.0": ("conv_norm_out", ""),
        "out.2": ("conv_out", ""),
    }
    return found


def _names(unet: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the checkpoint's U-Net -> keys in diffusers; `unet` is the content of its `config.json`."""
    names: dict[str, str] = {}
    for block, (ours, convolution) in _places().items():
        if block.startswith("fps_embedding") and not unet.get("fps_cond", False):
            continue
        if convolution:
            both = {f"{block}.{old}": f"{ours}.{new}" for old, new in _RESNET.items()}
            if unet.get("temporal_convs", True):
                # Misspelt in the published file.
                both |= {f"{block}.temopral_conv.{part}": f"{convolution}.{part}" for part in _CONVOLUTION}
        elif "attentions" in ours or ours == "transformer_in":
            both = {f"{block}.{part}": f"{ours}.{part}" for part in _TRANSFORMER}
            relative = unet.get("relative_positions", 0) and ".attentions" not in ours
            alone = [*_UNBIASED, *(_RELATIVE if relative else ())]
            names |= {f"{block}.{part}": f"{ours}.{part}" for part in alone}
        else:
            both = {block: ours}
        names |= {f"{old}.{kind}": f"{new}.{kind}" for old, new in both.items() for kind in ("weight", "bias")}
    return names


def unet_pieces(shapes: Shapes, unet: Mapping[str, Any], prefix: str = "model.diffusion_model.") -> dict[str, Piece]:
    """The keys of the diffusers U-Net and their sources; `unet` is the content of its `config.json`.

    Raises ValueError for a key that does not belong to this configuration, and for a missing one.
    """
    names = _names(unet)
    rows = 2 * unet.get("relative_positions", 0) + 1
    pieces: dict[str, Piece] = {}
    for source, shape in _under(shapes, prefix):
        name = names.pop(source.removeprefix(prefix), None)
        if name is None:
            raise _unknown_name(source)
        if name.endswith(".embeddings_table") and shape[:1] != (rows,):
            raise ValueError(f"{source} is {list(shape)} and not of {rows} rows")
        # Published as convolutions of kernel size 1.
        flat = shape[:2] if re.search(r"proj_(in|out)\.weight$", name) and len(shape) == 3 else None
        pieces[name] = Piece(source, shape=flat)
    # A residual block has a skip connection only if the width changes.
    if missing := [key for key in names if ".skip_connection." not in key]:
        raise ValueError(f"it misses {prefix}{missing[0]}")
    return pieces


def autoencoder_pieces(shapes: Shapes, prefix: str = "first_stage_model.") -> dict[str, Piece]:
    """AutoencoderKL's keys and their sources. Raises ValueError for an unknown key."""
    names: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"\bencoder\.down\.(\d)\.block\.", r"encoder.down_blocks.\1.resnets."),
        (r"\bencoder\.down\.(\d)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
        (r"\bdecoder\.up\.(\d)\.block\.", lambda m: f"decoder.up_blocks.{3 - int(m[1])}.resnets."),
        (r"\bdecoder\.up\.(\d)\.upsample\.", lambda m: f"decoder.up_blocks.{3 - int(m[1])}.upsamplers.0."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
        (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
        (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"\.norm_out\.", ".conv_norm_out."),
    ]
    pieces: dict[str, Piece] = {}
    for source, shape in _under(shapes, prefix):
        name = source.removeprefix(prefix)
        if name.startswith("loss."):
            continue
        for pattern, ours in names:
            name = re.sub(pattern, ours, name)
        if not _VAE.fullmatch(name):
            raise _unknown_name(source)
        # Attention was published as 1x1 convolutions.
        flat = shape[:2] if ".attentions." in name and len(shape) == 4 else None
        pieces[name] = Piece(source, shape=flat)
    return pieces


def text_pieces(shapes: Shapes, prefix: str = "cond_stage_model.model.") -> dict[str, Piece]:
    """CLIPTextModel's keys and their sources: all of open_clip's layers except the last, as the model uses it.

    Raises ValueError for an unknown key.
    """
    block = re.compile(re.escape(prefix) + r"transformer\.resblocks\.(\d+)")
    layers = 1 + max(int(found[1]) for key in shapes if (found := block.match(key)))
    inner = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    inner |= {"attn.out_proj": "self_attn.out_proj"}
    pieces = {
        "text_model.embeddings.token_embedding.weight": Piece(f"{prefix}token_embedding.weight"),
        "text_model.embeddings.position_embedding.weight": Piece(f"{prefix}positional_embedding"),
        "text_model.final_layer_norm.weight": Piece(f"{prefix}ln_final.weight"),
        "text_model.final_layer_norm.bias": Piece(f"{prefix}ln_final.bias"),
    }
    for layer in range(layers - 1):
        theirs, ours = f"{prefix}transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for old, new in inner.items():
                pieces[f"{ours}.{new}.{kind}"] = Piece(f"{theirs}.{old}.{kind}")
            together = f"{theirs}.attn.in_proj_{kind}"
            width = shapes.get(together, (0,))[0] // 3
            for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
                pieces[f"{ours}.self_attn.{name}.{kind}"] = Piece(together, (place * width, (place + 1) * width))
    unused = rf"text_projection|logit_scale|attn_mask|transformer\.resblocks\.{layers - 1}\..*"
    used = {piece.source for piece in pieces.values()}
    for source, _ in _under(shapes, prefix):
        if source not in used and not re.fullmatch(unused, source.removeprefix(prefix)):
            raise _unknown_name(source)
    return pieces


def _under(shapes: Shapes, prefix: str) -> Iterable[tuple[str, Shape]]:
    return ((key, shape) for key, shape in shapes.items() if key.startswith(prefix))


def _unknown_name(source: str) -> ValueError:
    # A hostile name may be a megabyte long; the longest real one has 104 characters.
    return ValueError(f"{escaped(source[:120])} is not one of its names")


#: Configurations that all versions share; the rest follows from the weights.
_CONFIGS: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "TextToVideoSDPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["flickbook", "FlickbookUNet3DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    "unet/config.json": {
        "_class_name": "FlickbookUNet3DModel",
        "act_fn": "silu",
        "attention_head_dim": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
        "down_block_types": [*["CrossAttnDownBlock3D"] * 3, "DownBlock3D"],
        "downsample_padding": 1,
        "in_channels": 4,
        "layers_per_block": _LAYERS,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock3D", *["CrossAttnUpBlock3D"] * 3],
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder/config.json": {
        "architectures": ["CLIPTextModel"],
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "vocab_size": 49408,
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "DDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    },
}


@dataclass(frozen=True)
class Version:
    """A published checkpoint, and its `unet` and `scheduler` options in addition to `_CONFIGS`."""

    title: str
    repo: str
    unet: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)

    def configs(self) -> dict[str, dict[str, Any]]:
        """The content of each configuration file, by path."""
        more = {"unet/config.json": self.unet, "scheduler/scheduler_config.json": self.scheduler}
        return {name: {**values, **more.get(name, {})} for name, values in _CONFIGS.items()}


_FIRST = {"relative_positions": 16, "temporal_convs": False}
#: The versions by the catalogue's `convert` field.
VERSIONS = {
    "videocrafter1": Version("VideoCrafter1 at 512x320", "VideoCrafter/Text2Video-512", _FIRST),
    "videocrafter1-1024": Version(
        "VideoCrafter1 at 1024x576",
        "VideoCrafter/Text2Video-1024",
        {**_FIRST, "fps_cond": True, "sample_size": 128},
        {"signal_scale": {"end": 0.3, "steps": 400}},
    ),
    "videocrafter2": Version(
        "VideoCrafter2",
        "VideoCrafter/VideoCrafter2",
        {"fps_cond": True},
        {"signal_scale": {"end": 0.7, "steps": 400}},
    ),
}


def convert_directory(
    path: Path, out: Path, version: str, configs: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """Writes the networks and configurations of a `model.ckpt` under `out`, without the tokenizer.

    `version` is one of VERSIONS; `configs` replaces its configurations. Raises WeightsError for a checkpoint of
    another version.
    """
    published = VERSIONS[version]
    configs = published.configs() if configs is None else configs
    with Checkpoint(path) as checkpoint:
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        try:
            files = _files(shapes, configs["unet/config.json"])
        except ValueError as error:
            reason = f"not a checkpoint of {published.title} ({error})"
            raise WeightsError(path, reason, f"convert the model.ckpt of {published.repo}") from error
        for name, pieces in files.items():
            convert(checkpoint, out / name, pieces)
    for name, values in configs.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out


def _files(shapes: Shapes, unet: Mapping[str, Any]) -> dict[str, dict[str, Piece]]:
    """The sources of each weights file. Raises ValueError for a key that belongs to none of them."""
    networks = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.model.")
    for source in shapes:
        if not source.startswith(networks) and not _BESIDE.fullmatch(source):
            raise _unknown_name(source)
    files = {
        "unet/diffusion_pytorch_model.safetensors": unet_pieces(shapes, unet),
        "vae/diffusion_pytorch_model.safetensors": autoencoder_pieces(shapes),
        "text_encoder/model.safetensors": text_pieces(shapes),
    }
    if not all(files.values()):
        raise ValueError("a network is missing")
    return files
