"""VideoCrafter's checkpoints: small ones under their published names become directories that our networks load."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flickbook.catalogue import find, list_models
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig, TextEncoder, text_keys
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.diffusion.weights import load_weights, same_keys
from flickbook.errors import WeightsError
from flickbook.hub.add import describe
from flickbook.hub.fetch import convert_videocrafter
from flickbook.hub.manifest import verify
from flickbook.hub.videocrafter import VERSIONS, convert_directory

SMALL: dict[str, dict[str, Any]] = {
    "unet/config.json": {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8, "attention_head_dim": 8}
    | {"cross_attention_dim": 24},
    "vae/config.json": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4},
    "text_encoder/config.json": {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    # The built-in model's tokenizer has as many words.
    | {"num_hidden_layers": 2, "vocab_size": 2030, "max_position_embeddings": 48},
}
State = dict[str, Tensor]


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


def small(version: str) -> dict[str, dict[str, Any]]:
    return {name: {**values, **SMALL.get(name, {})} for name, values in VERSIONS[version].configs().items()}


def built(version: str) -> dict[str, nn.Module]:
    """The three networks of a version, small, every parameter drawn."""
    torch.manual_seed(0)
    configs = small(version)
    found: dict[str, nn.Module] = {
        "unet": UNet3D(UNet3DConfig.from_dict(configs["unet/config.json"])),
        "vae": Autoencoder(AutoencoderConfig.from_dict(configs["vae/config.json"])),
        "text_encoder": TextEncoder(TextConfig.from_dict(configs["text_encoder/config.json"])),
    }
    for network in found.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return found


def published(networks: dict[str, nn.Module]) -> State:
    """All networks under the published names and shapes."""
    state: State = {"betas": torch.zeros(1000), "alphas_cumprod": torch.ones(1000)}
    for key, value in networks["unet"].state_dict().items():
        one_tap = key.startswith("transformer_in.proj") and key.endswith("weight")
        state["model.diffusion_model." + old_unet(key)] = value[..., None] if one_tap else value
    for key, value in networks["vae"].state_dict().items():
        pixel = ".attentions." in key and value.ndim == 2
        state["first_stage_model." + old_vae(key)] = value[..., None, None] if pixel else value
    for key, value in old_text(networks["text_encoder"].state_dict()).items():
        state["cond_stage_model.model." + key] = value
    return state


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """A small checkpoint of each version."""
    return {version: published(built(version)) for version in VERSIONS}


each = pytest.mark.parametrize("version", VERSIONS)


@pytest.mark.slow
@each
def test_a_checkpoint_becomes_a_directory_that_loads(version: str, states: dict[str, State], tmp_path: Path) -> None:
    path, configs = tmp_path / "model.ckpt", small(version)
    torch.save({"state_dict": states[version]}, path)
    out = convert_directory(path, tmp_path / "model", version, configs)
    for part, network in built(version).items():
        name = "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors"
        rename = text_keys if part == "text_encoder" else same_keys
        found = load_weights(partial(type(network), network.config), out / part / name, rename=rename).state_dict()
        expected = network.state_dict()
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value), key
    for name, values in configs.items():
        assert json.loads((out / name).read_text(encoding="utf-8")) == values


@pytest.mark.slow
@pytest.mark.parametrize("version", ["videocrafter1", "videocrafter1-1024"])
def test_what_was_converted_makes_a_film_and_stock_diffusers_refuses_it(
    version: str, states: dict[str, State], tmp_path: Path
) -> None:
    """20 frames: longer than the tables of relative positions reach."""
    torch.save(states[version], tmp_path / "model.ckpt")
    out = convert_directory(tmp_path / "model.ckpt", tmp_path / "model", version, small(version))
    shutil.copytree(find("builtin").path() / "tokenizer", out / "tokenizer")
    networks = [TextToVideo.load(out), TextToVideo.load(out).pack()]
    latents = noise([5], networks[0].latent_shape(20, 64, 64))
    ends = []
    for network in networks:
        context, negative = network.embed(["a red circle", ""]).chunk(2)
        begin = SamplerState.begin(latents, network.schedule.timesteps(3))
        *_, end = network.denoise(begin, context, negative, [4.0], "ddim", [8.0])
        ends.append(end.latents)
    assert ends[0].isfinite().all() and not torch.allclose(ends[0], latents, atol=0.1)
    assert torch.allclose(ends[1], ends[0], atol=1e-3 * float(ends[0].abs().max()))
    assert torch.cat(list(networks[0].decode(ends[0][0]))).shape == (20, 64, 64, 3)

    from diffusers import DiffusionPipeline

    library: Any = DiffusionPipeline
    with pytest.raises((AttributeError, ImportError, ValueError), match="flickbook|FlickbookUNet3DModel"):
        library.from_pretrained(out)


@each
def test_what_is_pulled_becomes_that_version_with_its_tokenizer(
    version: str, states: dict[str, State], tmp_path: Path
) -> None:
    torch.save({"state_dict": states[version]}, tmp_path / "model.ckpt")
    out = convert_videocrafter(tmp_path / "model.ckpt", tmp_path / "model", find("builtin").path(), version)
    assert verify(out) and (out / "tokenizer" / "vocab.json").is_file()
    for name, values in VERSIONS[version].configs().items():
        assert json.loads((out / name).read_text(encoding="utf-8")) == values


def test_published_names_that_we_know(states: dict[str, State]) -> None:
    """Spot checks against names seen in the published code."""
    everywhere = {
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.input_blocks.11.0.in_layers.0.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.11.2.proj_out.weight",
        "model.diffusion_model.init_attn.0.transformer_blocks.0.attn2.to_out.0.bias",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.encoder.mid.attn_1.q.weight",
    }
    rate = {"model.diffusion_model.fps_embedding.2.weight"}
    convolutions = {"model.diffusion_model.input_blocks.1.0.temopral_conv.conv1.2.weight"}
    positions = {
        "model.diffusion_model.init_attn.0.transformer_blocks.0.attn1.relative_position_k.embeddings_table",
        "model.diffusion_model.output_blocks.6.2.transformer_blocks.0.attn2.relative_position_v.embeddings_table",
    }
    some = everywhere | rate | convolutions | positions
    assert some & set(states["videocrafter2"]) == everywhere | rate | convolutions
    assert some & set(states["videocrafter1"]) == everywhere | positions
    assert some & set(states["videocrafter1-1024"]) == everywhere | positions | rate


@pytest.mark.parametrize(
    ("version", "millions", "keys"),
    [("videocrafter1", 1144.486, 1196), ("videocrafter1-1024", 1146.537, 1200), ("videocrafter2", 1413.284, 1484)],
)
def test_the_published_size_has_its_parameters(version: str, millions: float, keys: int) -> None:
    """As many as the published code makes of the published configurations."""
    with torch.device("meta"):
        network = UNet3D(UNet3DConfig.from_dict(VERSIONS[version].configs()["unet/config.json"]))
    assert len(network.state_dict()) == keys
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)


@pytest.mark.parametrize(("version", "end"), [("videocrafter1-1024", 0.3), ("videocrafter2", 0.7)])
def test_the_signal_is_scaled_where_there_is_noise(version: str, end: float) -> None:
    schedule = NoiseSchedule.from_config(VERSIONS[version].configs()["scheduler/scheduler_config.json"])
    assert schedule.signal_scale is not None
    assert float(schedule.signal_scale[0]) == 1.0
    assert float(schedule.signal_scale[399]) == float(schedule.signal_scale[999]) == pytest.approx(end)


def test_the_first_small_version_scales_nothing() -> None:
    values = VERSIONS["videocrafter1"].configs()["scheduler/scheduler_config.json"]
    assert NoiseSchedule.from_config(values).signal_scale is None


def refused(state: State, version: str, tmp_path: Path, message: str) -> None:
    """The conversion says `message`, and leaves nothing."""
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match=message) as caught:
        convert_directory(tmp_path / "a.ckpt", tmp_path / "out", version, small(version))
    assert caught.value.remedy == f"convert the model.ckpt of {VERSIONS[version].repo}"
    assert not (tmp_path / "out").exists()


@each
def test_another_version_is_refused(version: str, states: dict[str, State], tmp_path: Path) -> None:
    title = re.escape(VERSIONS[version].title)
    for other in VERSIONS.keys() - {version}:
        refused(states[other], version, tmp_path, f"not a checkpoint of {title} .*(is not one of its names|it misses)")


@pytest.mark.slow
@each
@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.strange.weight",
        "model.diffusion_model.input_blocks.1.0.in_layers.1.weight",
        "model.diffusion_model.input_blocks.10.1.norm.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k_ip.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.relative_position_k.embeddings_table",
        "model.diffusion_model.middle_block.2.transformer_blocks.1.attn1.to_q.weight",
        "first_stage_model.decoder.time_mix.weight",
        "cond_stage_model.model.transformer.resblocks.0.strange.weight",
        "image_proj_model.latents.weight",
    ],
)
def test_a_name_that_is_not_known_is_refused(name: str, version: str, states: dict[str, State], tmp_path: Path) -> None:
    refused({**states[version], name: torch.ones(1)}, version, tmp_path, f"{re.escape(name)} is not one of its names")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: {}, "it misses .*middle_block.2.*relative_position_v.embeddings_table"),
        (lambda table: table[:-2], r"is \[31, 8\] and not of 33 rows"),
    ],
)
def test_tables_of_other_distances_are_refused(
    change: Callable[[Tensor], Tensor | dict[str, Tensor]], message: str, states: dict[str, State], tmp_path: Path
) -> None:
    name = "model.diffusion_model.middle_block.2.transformer_blocks.0.attn2.relative_position_v.embeddings_table"
    state = dict(states["videocrafter1"])
    changed = change(state.pop(name))
    refused(state | (changed if isinstance(changed, dict) else {name: changed}), "videocrafter1", tmp_path, message)


def test_no_network_at_all_is_refused(tmp_path: Path) -> None:
    refused({"betas": torch.zeros(4)}, "videocrafter2", tmp_path, "not a checkpoint of VideoCrafter2")


def test_the_catalogue_names_the_repositories() -> None:
    models = {model.convert: model.repo for model in list_models() if model.convert in VERSIONS}
    assert models.keys() >= {"videocrafter1", "videocrafter2"}
    assert all(VERSIONS[version].repo == repo for version, repo in models.items())


@each
def test_their_repositories_can_be_added_by_name(version: str) -> None:
    model = describe("mine", VERSIONS[version].repo, like="videocrafter1")
    assert (model.convert, model.files, model.repo) == (version, ("model.ckpt",), VERSIONS[version].repo)
    # Another's fine-tune may be in any layout.
    model = describe("theirs", "somebody/films", like="videocrafter1")
    assert (model.convert, model.files) == ("", ())
