"""The LoRA of a training: added to networks by PEFT, read back, and written in the two usual layouts.

Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): W + up @ down. `down` is (rank, inside), `up` (outside, rank);
for convolutions with the kernel's dimensions.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flickbook.errors import MissingExtra
from flickbook.files import replace_whole

NAME = "pytorch_lora_weights.safetensors"
_ADAPTER = "default"
#: The projections of attention, by their names in diffusers and in transformers' text encoders.
_ATTENTION = re.compile(r".*\.(to_q|to_k|to_v|to_out\.0|add_[qkv]_proj|to_add_out|q_proj|k_proj|v_proj|out_proj)")
_KOHYA = {"unet": "lora_unet", "transformer": "lora_unet", "text_encoder": "lora_te"}
#: Names of Wan's layers in diffusers -> in its original code, which other programs read.
_WAN = (
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_out.0", ".o"),
    (".add_k_proj", ".k_img"),
    (".add_v_proj", ".v_img"),
    (".to_q", ".q"),
    (".to_k", ".k"),
    (".to_v", ".v"),
    (".ffn.net.0.proj", ".ffn.0"),
    (".ffn.net.2", ".ffn.2"),
)


def layers_of(network: nn.Module, target_modules: str) -> list[str]:
    """The layers that get a LoRA: the projections of attention, or all linear and convolution layers."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    found = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    return found if target_modules == "all" else [name for name in found if _ATTENTION.fullmatch("." + name)]


def add(network: nn.Module, rank: int, target_modules: str) -> None:
    """Add a LoRA to a network whose weights are frozen. Its `up` matrices are 0, so the network computes the same."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", "train") from error
    chosen = "|".join(re.escape(name) for name in layers_of(network, target_modules))
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.inject_adapter_in_model(config, network, _ADAPTER)
    for name, parameter in network.named_parameters():
        trained = ".lora_A." in name or ".lora_B." in name
        parameter.requires_grad_(trained)
        if trained:
            parameter.data = parameter.data.float()


def factors(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> (down, up)."""
    found = {}
    for name, module in network.named_modules():
        if hasattr(module, "lora_A") and _ADAPTER in module.lora_A:
            found[name] = (module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight)
    return found


def merged(network: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights W + up @ down in `dtype`, by their names, for a call of the network with its LoRA switched off.

    Layers of one shape are computed together, in few calls.
    """
    pairs = factors(network)
    own = {name: network.get_parameter(f"{name}.base_layer.weight") for name in pairs}
    groups: dict[torch.Size, list[str]] = {}
    for name, weight in own.items():
        groups.setdefault(weight.shape, []).append(name)
    found: dict[str, Tensor] = {}
    with torch.autocast(next(network.parameters()).device.type, enabled=False):
        for shape, names in groups.items():
            base = _stacked([own[name] for name in names])
            down, up = (_stacked([pairs[name][place] for name in names]) for place in (0, 1))
            product = torch.baddbmm(base, up, down).to(dtype)
            found |= {f"{name}.base_layer.weight": each.view(shape) for name, each in zip(names, product, strict=True)}
    return found


def _stacked(weights: list[Tensor]) -> Tensor:
    """Weights of one shape as matrices in float32, (layers, outside, inside)."""
    return torch.stack([weight.float().flatten(1) for weight in weights])


@contextmanager
def switched_off(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """The networks without their LoRAs."""
    layers = [module for each in networks.values() for module in each.modules() if hasattr(module, "enable_adapters")]
    for layer in layers:
        layer.enable_adapters(False)  # type: ignore[operator]
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)  # type: ignore[operator]


def trained(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters under training, by network and name."""
    return {
        f"{part}/{name}": parameter
        for part, network in networks.items()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def write(
    networks: Mapping[str, nn.Module], directory: Path, name: str, metadata: Mapping[str, str], pipeline: str
) -> list[Path]:
    """Write the LoRA in diffusers' layout, with the settings of PEFT, and in kohya's. Returns the two files."""
    state: dict[str, Tensor] = {}
    kohya: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for part, network in networks.items():
        for layer, (down, up) in factors(network).items():
            down, up = (each.detach().float().cpu().contiguous() for each in (down, up))
            state |= {f"{part}.{layer}.lora_A.weight": down, f"{part}.{layer}.lora_B.weight": up}
            flat = f"{_KOHYA[part]}_{_original(layer, pipeline).replace('.', '_')}"
            kohya |= {f"{flat}.lora_down.weight": down.clone(), f"{flat}.lora_up.weight": up.clone()}
            kohya[f"{flat}.alpha"] = torch.tensor(float(len(down)))
        settings |= {f"{part}.{key}": value for key, value in _settings(network).items()}
    files = [directory / NAME, directory / f"{name}_kohya.safetensors"]
    first = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True), **metadata}
    second = {"format": "pt", "ss_network_module": "networks.lora", **metadata}
    replace_whole(files[0], lambda temporary: _save(state, temporary, first))
    replace_whole(files[1], lambda temporary: _save(kohya, temporary, second))
    return files


def _save(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors with the metadata in order: the library's order is random, and equal LoRAs have equal files."""
    save_file(dict(state), path, dict(metadata))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        file.seek(8)
        file.write(text.ljust(length))


def _original(layer: str, pipeline: str) -> str:
    """A layer's name as programs of the model's publisher spell it."""
    if pipeline.startswith("Wan"):
        for ours, theirs in _WAN:
            layer = f".{layer}".replace(ours, theirs).removeprefix(".")
    return layer


def _settings(network: nn.Module) -> dict[str, Any]:
    """The settings of PEFT that diffusers stores with a LoRA."""
    config = network.peft_config[_ADAPTER].to_dict()  # type: ignore[index,union-attr]
    kept = ("r", "lora_alpha", "use_rslora", "use_dora", "bias", "lora_dropout", "peft_type")
    found = {key: getattr(value, "value", value) for key, value in config.items() if key in kept}
    return found | {"target_modules": sorted(factors(network))}
