"""LoRAs of random numbers, as files of every trainer's style, and what they add to a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

#: Of each layer of a network: down, up, and what scales their product.
Adapter = dict[str, tuple[Tensor, Tensor, float]]


def adapter(network: nn.Module, chosen: Callable[[str], bool] = lambda _: True) -> Adapter:
    """Random matrices of ranks 2 to 4 for every layer that a LoRA can change."""
    made: Adapter = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and chosen(name):
            out, *inside = module.weight.shape
            rank, ones = 2 + len(made) % 3, [1] * (len(inside) - 1)
            made[name] = torch.randn(rank, *inside) * 0.2, torch.randn(out, rank, *ones) * 0.2, 1.0
    return made


def deltas(made: Adapter, weight: float = 1.0) -> dict[str, Tensor]:
    """What is added to each layer's weight."""
    return {
        name: weight * scale * (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])
        for name, (down, up, scale) in made.items()
    }


def write(path: Path, made: Adapter, style: str, part: str = "unet", **metadata: str) -> Path:
    """The adapter as a file of a trainer; kohya's alphas double every scale."""
    state: dict[str, Tensor] = {}
    for name, (down, up, _) in made.items():
        old = (
            f"{part}.{name.removesuffix('.0')}_lora" if name.endswith((".to_q", ".to_out.0")) else f"{part}.{name}.lora"
        )
        flat = f"lora_{'te' if part == 'text_encoder' else 'unet'}_{name.replace('.', '_')}"
        ends = {
            "diffusers": (f"{part}.{name}.lora_A.weight", f"{part}.{name}.lora_B.weight"),
            "old diffusers": (f"{old}.down.weight", f"{old}.up.weight"),
            "peft": (f"base_model.model.{name}.lora_A.weight", f"base_model.model.{name}.lora_B.weight"),
            "kohya": (f"{flat}.lora_down.weight", f"{flat}.lora_up.weight"),
        }[style]
        state |= dict(zip(ends, (down, up), strict=True))
        if style == "kohya":
            state[f"{flat}.alpha"] = torch.tensor(2.0 * down.shape[0])
    save_file(state, path, metadata=metadata or None)
    return path


def changed(network: nn.Module, added: dict[str, Tensor]) -> Any:
    """A copy of a network with these tensors added to its weights."""
    other = copy.deepcopy(network)
    for name, delta in added.items():
        other.get_submodule(name).weight.data += delta  # type: ignore[operator]
    return other


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest error, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())
