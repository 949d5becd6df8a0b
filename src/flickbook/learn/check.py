"""What a training refuses before it begins: parts that do not belong together, and more memory than is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.text import TextConfig
from flickbook.diffusion.unet3d import UNet3DConfig
from flickbook.errors import RequestError
from flickbook.hub.manifest import read_config
from flickbook.learn import checkpoint
from flickbook.learn.autoencode import AutoencodeConfig
from flickbook.learn.compute import memory
from flickbook.learn.config import TrainConfig
from flickbook.learn.train import Model
from flickbook.world.scenes import FRAMES, SIZE

#: Fields of networks that leave the shapes of their weights as they are.
_NO_WEIGHTS = {"sample_size", "norm_eps", "layer_norm_eps", "frame_positions", "hidden_act"}
_NO_WEIGHTS |= {"bos_token_id", "eos_token_id", "pad_token_id"}


def check(config: TrainConfig, out: Path, init: Path | None = None, accelerator: Any = None) -> None:
    """Raise RequestError for a training that cannot end well: an autoencoder that never sees a group of the films,
    weights of another network to start from, or a step that needs more memory than is free."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained = init is None or config.autoencoder.refine != "none"
    if trained and not (out / "autoencoder.safetensors").exists():
        _check_groups(config)
        _check_memory_of_autoencoder(config.autoencoder, device)
    if init is not None and checkpoint.latest(out / "diffusion") is None:
        _check_init(config, init)
    ranks = accelerator.num_processes if accelerator else 1
    _check_memory_of_diffusion(config, accelerator.device if accelerator else device, ranks)


def _check_groups(config: TrainConfig) -> None:
    missing = [group for group in config.world if group not in config.autoencoder.world]
    if missing:
        limit = f"lacks {', '.join(missing)}, of which world has films"
        remedy = f"add {missing[0]} = 64, or leave it out of world"
        raise RequestError("autoencoder.world", config.autoencoder.world, limit, remedy)


def _check_init(config: TrainConfig, init: Path) -> None:
    """Refuse weights of networks other than the configuration's before anything is made with them."""
    kinds: tuple[tuple[str, Callable[..., Any], dict[str, Any]], ...] = (
        ("unet", UNet3DConfig.from_dict, config.unet),
        ("text_encoder", TextConfig.from_dict, config.text_encoder),
    )
    for part, build, values in kinds:
        path = init / part / "config.json"
        theirs, ours = asdict(build(read_config(path), path)), asdict(build(values))
        for name, value in ours.items():
            if name not in _NO_WEIGHTS and value != theirs[name]:
                limit = f"has {part}.{name} {theirs[name]!r}, and the configuration {value!r}"
                raise RequestError("init", str(init), limit, "name a model of the same networks, or leave it out")


def _check_memory_of_autoencoder(config: AutoencodeConfig, device: torch.device) -> None:
    with torch.device("meta"):
        network = Autoencoder(AutoencoderConfig.from_dict(config.network))
    batches = {}
    if config.crop_steps:
        batches["crop_batch"] = (config.crop_batch, 3, config.crop, config.crop)
    if config.whole_steps:
        batches["whole_batch"] = (config.whole_batch, 3, SIZE, SIZE)
    # The frames stay in main memory, and are there twice while they are joined.
    bank = 2 * sum(config.world.values()) * len(range(0, FRAMES, config.every)) * SIZE * SIZE * 3
    bank = 0 if device.type == "cuda" else bank
    weights = sum(parameter.numel() for parameter in network.parameters())
    for name, shape in batches.items():
        kept = memory.activations(network, partial(_reconstruct, images=torch.empty(shape, device="meta")))
        need, free = memory.required(weights, 1, kept, bank), memory.free(device)
        if bank > kept:
            memory.refuse_beyond(need, free, "autoencoder.world", config.world, "name fewer films")
        memory.refuse_beyond(need, free, f"autoencoder.{name}", shape[0], "lower it")


def _check_memory_of_diffusion(config: TrainConfig, device: torch.device, ranks: int) -> None:
    """Refuse if one process's share of the largest step needs more memory than is free."""
    with torch.device("meta"):
        model = Model(config)
    side = SIZE // AutoencoderConfig.from_dict(config.autoencoder.network).factor
    kept = 0
    for frames in {length for stage in config.stages for length in stage.frames}:
        clips = max(1, config.frames_per_step // frames // ranks)
        x = torch.empty(clips, model.unet.config.in_channels, frames, side, side, device="meta")
        ids = torch.empty(clips, config.max_length, dtype=torch.long, device="meta")
        step = torch.empty(clips, device="meta")
        kept = max(kept, memory.activations(model, partial(_predict, x=x, step=step, ids=ids)))
    weights = sum(parameter.numel() for parameter in model.parameters())
    halves = 1 if device.type == "cuda" else 0  # the copy in bfloat16 and its gradients
    # The films stay in main memory, as latents in float16.
    films = sum(config.world.values()) * FRAMES * model.unet.config.in_channels * side * side * 2
    films = 0 if device.type == "cuda" else films
    need, free = memory.required(weights, len(config.ema_decays) + halves, kept, films), memory.free(device, ranks)
    if films > kept:
        memory.refuse_beyond(need, free, "world", config.world, "name fewer films")
    memory.refuse_beyond(need, free, "frames_per_step", config.frames_per_step, "lower it, or the networks")


def _predict(network: nn.Module, x: Tensor, step: Tensor, ids: Tensor) -> Tensor:
    found: Tensor = network(x, step, ids)
    return found


def _reconstruct(network: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = network.decode(network.encode(images).mean)  # type: ignore[operator]
    return found
