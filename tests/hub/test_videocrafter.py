"""VideoCrafter2's checkpoint: a small one under its published names becomes a directory that our networks load."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig, TextEncoder, text_keys
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.diffusion.weights import load_weights, same_keys
from flickbook.errors import WeightsError
from flickbook.hub.videocrafter import CONFIGS, convert_directory

SMALL: dict[str, dict[str, Any]] = {
    "unet/config.json": {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8, "attention_head_dim": 8}
    | {"cross_attention_dim": 24},
    "vae/config.json": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4},
    "text_encoder/config.json": {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    | {"num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 9},
}


def old_unet(key: str) -> str:
    """Our U-Net's key -> the published one; written from our side, to check the map that is written from theirs."""
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1"}
    resnet |= {"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    ends = {
        "conv_in": "input_blocks.0.0",
        "transformer_in": "init_attn.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    ends |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    ends |= {"fps_embedding.linear_1": "fps_embedding.0", "fps_embedding.linear_2": "fps_embedding.2"}
    for ours, theirs in ends.items():
        key = re.sub(rf"^{ours}\.", f"{theirs}.", key)
    found = re.match(r"(down_blocks\.\d|up_blocks\.\d|mid_block)\.(\w+)\.(\d)\.(.*)", key)
    if found is None:
        return key
    where, kind, number, rest = found[1], found[2], int(found[3]), found[4]
    level = int(where[-1]) if where != "mid_block" else 0
    place = {"resnets": 0, "temp_convs": 0, "attentions": 1, "temp_attentions": 2}.get(kind, 0)
    if where == "mid_block":
        block = f"middle_block.{3 if number == 1 else place}"
    elif where.startswith("down"):
        block = f"input_blocks.{3 * level + 1 + number}.{place}"
    else:
        block = f"output_blocks.{3 * level + number}.{place}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 3}.{rest}"
    if kind == "temp_convs":
        return f"{block}.temopral_conv.{rest}"
    if kind == "resnets":
        inner, _, last = rest.rpartition(".")
        return f"{block}.{resnet[inner]}.{last}"
    return f"{block}.{rest}"


def old_vae(key: str) -> str:
    key = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", key)
    key = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", key)
    key = re.sub(r"decoder\.up_blocks\.(\d)\.resnets", lambda m: f"decoder.up.{3 - int(m[1])}.block", key)
    key = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm").replace("conv_shortcut", "nin_shortcut")
    key = key.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out").replace("conv_norm_out", "norm_out")
    return re.sub(r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1", key)


def old_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's text tower with one layer more, which the model does not use."""
    old = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "text_projection": torch.zeros(24, 24),
        "logit_scale": torch.tensor(1.0),
    }
    for layer in range(3):
        ours, theirs = f"text_model.encoder.layers.{min(layer, 1)}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            heads = [state[f"{ours}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            old[f"{theirs}attn.in_proj_{kind}"] = torch.cat(heads) + (layer == 2)
            for new, name in {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc"}.items():
                old[f"{theirs}{name}.{kind}"] = state[f"{ours}{new}.{kind}"]
            old[f"{theirs}mlp.c_proj.{kind}"] = state[f"{ours}mlp.fc2.{kind}"]
            old[f"{theirs}attn.out_proj.{kind}"] = state[f"{ours}self_attn.out_proj.{kind}"]
    return old


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, Any]]:
    return {name: {**values, **SMALL.get(name, {})} for name, values in CONFIGS.items()}


@pytest.fixture(scope="module")
def networks(configs: dict[str, dict[str, Any]]) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        "unet": UNet3D(UNet3DConfig.from_dict(configs["unet/config.json"])),
        "vae": Autoencoder(AutoencoderConfig.from_dict(configs["vae/config.json"])),
        "text_encoder": TextEncoder(TextConfig.from_dict(configs["text_encoder/config.json"])),
    }
    for network in found.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return found


def published(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All networks under the published names and shapes."""
    state: dict[str, Tensor] = {"betas": torch.zeros(1000), "scale_arr": torch.ones(1000)}
    for key, value in networks["unet"].state_dict().items():
        one_tap = key.startswith("transformer_in.proj") and key.endswith("weight")
        state["model.diffusion_model." + old_unet(key)] = value[..., None] if one_tap else value
    for key, value in networks["vae"].state_dict().items():
        pixel = ".attentions." in key and value.ndim == 2
        state["first_stage_model." + old_vae(key)] = value[..., None, None] if pixel else value
    for key, value in old_text(networks["text_encoder"].state_dict()).items():
        state["cond_stage_model.model." + key] = value
    return state


def test_a_checkpoint_becomes_a_directory_that_loads(
    networks: dict[str, nn.Module], configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": published(networks)}, path)
    out = convert_directory(path, tmp_path / "model", configs)
    for part, network in networks.items():
        name = "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors"
        rename = text_keys if part == "text_encoder" else same_keys
        made = load_weights(partial(type(network), network.config), out / part / name, rename=rename)
        for key, value in network.state_dict().items():
            assert torch.equal(made.state_dict()[key], value), key
    for name, values in configs.items():
        assert json.loads((out / name).read_text(encoding="utf-8")) == values


def test_published_names_that_we_know(networks: dict[str, nn.Module]) -> None:
    """Spot checks against names seen in the published code."""
    names = set(published(networks))
    assert {
        "model.diffusion_model.input_blocks.1.0.temopral_conv.conv1.2.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.input_blocks.11.0.in_layers.0.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.11.2.proj_out.weight",
        "model.diffusion_model.init_attn.0.transformer_blocks.0.attn2.to_out.0.bias",
        "model.diffusion_model.fps_embedding.2.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.encoder.mid.attn_1.q.weight",
    } <= names


def test_the_published_size_has_its_parameters() -> None:
    with torch.device("meta"):
        network = UNet3D(UNet3DConfig.from_dict(CONFIGS["unet/config.json"]))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6) == 1413


def test_the_signal_is_scaled_where_there_is_noise() -> None:
    schedule = NoiseSchedule.from_config(CONFIGS["scheduler/scheduler_config.json"])
    assert schedule.signal_scale is not None
    assert float(schedule.signal_scale[0]) == 1.0
    assert float(schedule.signal_scale[399]) == float(schedule.signal_scale[999]) == pytest.approx(0.7)


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"model.diffusion_model.strange.weight": torch.ones(1)}}, tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match="not a checkpoint of VideoCrafter2"):
        convert_directory(tmp_path / "a.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
