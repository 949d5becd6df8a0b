"""VideoCrafter2's `model.ckpt` as a directory in diffusers' layout.

Its three networks are those of text-to-video-ms-1.7b under the names of older code bases (latent diffusion's U-Net and
autoencoder, open_clip's text tower), with two additions: an embedding of the frames a second, and a signal that is
scaled down where there is much noise. Names: Chen et al. 2024 (arXiv 2401.09047) and the code published with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flickbook.errors import WeightsError
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


def _places() -> dict[str, tuple[str, str]]:
    """Block of the checkpoint's U-Net -> (block of ours, and for a residual block its temporal convolution)."""
    found: dict[str, tuple[str, str]] = {}
    for level in range(_LEVELS):
        for layer in range(_LAYERS):
            block, ours = f"input_blocks.{1 + 3 * level + layer}", f"down_blocks.{level}"
            found[f"{block}.0"] = (f"{ours}.resnets.{layer}", f"{ours}.temp_convs.{layer}")
            found[f"{block}.1"] = (f"{ours}.attentions.{layer}", "")
            found[f"{block}.2"] = (f"{ours}.temp_attentions.{layer}", "")
        found[f"input_blocks.{3 + 3 * level}.0.op"] = (f"down_blocks.{level}.downsamplers.0.conv", "")
    for layer in range(_LAYERS + 1):
        for level in range(_LEVELS):
            block, ours = f"output_blocks.{3 * level + layer}", f"up_blocks.{level}"
            found[f"{block}.0"] = (f"{ours}.resnets.{layer}", f"{ours}.temp_convs.{layer}")
            found[f"{block}.1"] = (f"{ours}.attentions.{layer}", "")
            found[f"{block}.2"] = (f"{ours}.temp_attentions.{layer}", "")
    # The first way up has no attention, so its upsampler stands earlier than the others'.
    for block, level in (("output_blocks.2.1", 0), ("output_blocks.5.3", 1), ("output_blocks.8.3", 2)):
        found[block] = (f"up_blocks.{level}.upsamplers.0", "")
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


def unet_pieces(shapes: Shapes, prefix: str = "model.diffusion_model.") -> dict[str, Piece]:
    """Our U-Net's keys and where they come from. Raises KeyError for a key that is not VideoCrafter2's."""
    places = _places()
    pieces: dict[str, Piece] = {}
    for source, shape in _under(shapes, prefix):
        key = source.removeprefix(prefix)
        block = next(place for place in _beginnings(key) if place in places)
        ours, convolutions = places[block]
        rest = key.removeprefix(block).removeprefix(".")
        if rest.startswith("temopral_conv."):  # so spelt in the published file
            name = f"{convolutions}.{rest.removeprefix('temopral_conv.')}"
        elif convolutions:
            inner, _, kind = rest.rpartition(".")
            name = f"{ours}.{_RESNET[inner]}.{kind}"
        else:
            name = f"{ours}.{rest}"
        # Published as convolutions of one tap.
        flat = shape[:2] if re.search(r"proj_(in|out)\.weight$", name) and len(shape) == 3 else None
        pieces[name] = Piece(source, shape=flat)
    return pieces


def autoencoder_pieces(shapes: Shapes, prefix: str = "first_stage_model.") -> dict[str, Piece]:
    """AutoencoderKL's keys and where they come from."""
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
        # Attention was written as convolutions of one pixel.
        flat = shape[:2] if ".attentions." in name and len(shape) == 4 else None
        pieces[name] = Piece(source, shape=flat)
    return pieces


def text_pieces(shapes: Shapes, prefix: str = "cond_stage_model.model.") -> dict[str, Piece]:
    """CLIPTextModel's keys and where they come from: all of open_clip's layers but the last, as the model uses it."""
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
    return pieces


def _under(shapes: Shapes, prefix: str) -> Iterable[tuple[str, Shape]]:
    return ((key, shape) for key, shape in shapes.items() if key.startswith(prefix))


def _beginnings(key: str) -> Iterable[str]:
    """A dotted key without its last parts, the longest first."""
    parts = key.split(".")
    return (".".join(parts[:count]) for count in range(len(parts), 0, -1))


#: What the directory's configurations hold; weights decide the rest.
CONFIGS: dict[str, dict[str, Any]] = {
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
        "fps_cond": True,
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
        "signal_scale": {"end": 0.7, "steps": 400},
        "steps_offset": 1,
        "timestep_spacing": "leading",
    },
}


def convert_directory(path: Path, out: Path, configs: Mapping[str, Mapping[str, Any]] = CONFIGS) -> Path:
    """Write the networks and configurations of a `model.ckpt` under `out`; the tokenizer is not in it.

    Raises WeightsError for a checkpoint that is not VideoCrafter2's.
    """
    with Checkpoint(path) as checkpoint:
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        try:
            files = {
                "unet/diffusion_pytorch_model.safetensors": unet_pieces(shapes),
                "vae/diffusion_pytorch_model.safetensors": autoencoder_pieces(shapes),
                "text_encoder/model.safetensors": text_pieces(shapes),
            }
            if not all(files.values()):
                raise ValueError("a network is missing")
        except (KeyError, StopIteration, ValueError) as error:
            reason = f"not a checkpoint of VideoCrafter2 ({error})"
            raise WeightsError(path, reason, "convert the model.ckpt of VideoCrafter/VideoCrafter2") from error
        for name, pieces in files.items():
            convert(checkpoint, out / name, pieces)
    for name, values in configs.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out
