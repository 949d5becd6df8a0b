"""The memory that a model and one film of it need, from file headers and configurations alone: no torch, no network.

What a network holds while it runs is computed layer by layer, following its code: a moment counts the tensors that are
still referenced. In units of one tensor (rows, channels, height, width), with c the channels of a level:

- In a transformer of the 3D U-Net the peak is in the gated feed-forward: value, gate and activated gate take 4 c each,
  in addition to the block's input, its tokens before and after, and the query and output of cross-attention: 17 c in
  all, or 13 c where packed kernels multiply into the gate. On top come the skip connections, the level's input and the
  output of its last layer.
- In a residual layer of the image autoencoder from a to b channels the peak is a + max(2 a, 3 b): the input, then its
  norm and activation, or the first convolution's output with its norm and activation. On top comes the level's input.
  For Stable Diffusion's decoder this is 768 values per pixel.

The peak of a process on a CPU is the largest of three. Loading: the process without a model, the networks loaded
before, the one being loaded, and, if it is cast, pages of its file, which the system can reclaim: all of them in
diffusers pipelines, in the U-Net family what is mapped at once (`_MAPPED`). Encoding, in the U-Net family: all weights,
packed. Running: the process, the weights without a text encoder that is unloaded after encoding
(`components.unloaded_bytes`), the film's frames, and denoising or decoding with the kernels' buffers. Those are four
times the largest tensor of the network, laid out anew in each call, or with packed float32 a fifteenth of what was
packed. Freed blocks between those in use add a little more than as much again; in diffusers pipelines at most 160 MiB.

Measured with torch 2.13, in MiB, on a Xeon. Built-in model, float32, 1, 4, 8, 16, 32, 64 frames: 374, 388, 398, 394,
397, 401; bfloat16, 1 and 16: 356, 370. The networks of text-to-video-ms-1.7b without their weights, frames of 256x256:
bfloat16, 8 and 16: 733, 1246; float32, 8: 1430; whole films, the whole process: bfloat16, 16: 4427; float32, 8: 7491.
On an EPYC, Wan 2.1 1.3B with diffusers, bfloat16, decoding 5 and 17 frames of 256x256: 5239, 5273; denoising 17 of
480x256: 4018. The formula is within 7 % of each process. Not measured: GPUs, and other pipelines, for which the
catalogue's figure for the default film is scaled to this one. Sizes here are in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flickbook.catalogue import Model
from flickbook.engine.memory.components import (
    BYTES,
    KINDS,
    Config,
    Part,
    optional,
    parts,
    unloaded_bytes,
    upsampler_part,
)
from flickbook.spec import Placement, Plan

MIB = 2**20
#: A process with torch and no model, and one that has diffusers and transformers too.
_PROCESS, _LIBRARIES = 300 * MIB, 440 * MIB
#: The kernels' code and tables, and how many copies of the largest tensor they make if weights are not packed.
_KERNELS, _COPIES = 10 * MIB, 4
#: How much of a weight file the U-Net family maps at once: 16 million float32 numbers.
_MAPPED = 64 * MIB
#: The overhead of packed weights, as a share of them.
_PACKED = 0.07
#: Freed blocks that stay with the process: as a share of what the U-Net family holds while they run; for pipelines, as
#: the same share while they decode, with this maximum in bytes.
_KEPT, _KEPT_MOST = 1.2, 160 * MIB
#: Not measured, for a GPU: its context with workspaces, its process's memory on the host, its allocator's rounding.
_CONTEXT, _GPU_PROCESS, _ROUNDED = 600 * MIB, 2048 * MIB, 1.1
#: Wan: pixels per side and frames in one latent; what its transformer holds in units of its width, without the
#: feed-forward; what its decoder holds per pixel, in units of its width.
_WAN_PIXELS, _WAN_FRAMES, _WAN_WIDTHS, _WAN_DECODED = 8, 4, 36, 64
#: Latents per side of a tile when frames are decoded in tiles.
TILE = 32
#: unet/config.json and vae/config.json of ModelScope and of all models derived from it.
_UNET: Config = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
}
_KL: Config = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}


# ---- denoising and decoding ----


def known(model: Model, directory: Path | None) -> bool:
    """Whether the film's memory is computed or measured, and not the catalogue's figure scaled to another size."""
    return model.family == "unet" or _is_wan(directory)


def denoising(model: Model, plan: Plan, directory: Path | None, placement: Placement) -> int:
    """Peak bytes of the denoising network, without its weights."""
    item, frames = BYTES[placement.dtype], plan.window or _frames(plan)
    if model.family == "unet":
        config = {**_UNET, **_config(directory, "unet")}
        factor = 2 ** (len(_autoencoder(directory)["block_out_channels"]) - 1)
        turns = 2 if plan.guided() and not placement.slicing else 1
        packed = placement.device == "cpu" and placement.dtype == "float32" and not placement.quantize
        rows = placement.batch * turns * frames
        return item * unet_values(config, rows, plan.height // factor, plan.width // factor, 13 if packed else 17)
    if _is_wan(directory):
        return wan_bytes(_config(directory, "transformer"), plan, item)
    return scaled(model, plan, directory, placement) // 2


def decoding(model: Model, plan: Plan, directory: Path | None, placement: Placement) -> int:
    """Peak bytes of decoding, without weights and the film's frames."""
    item = BYTES[placement.dtype]
    if model.family == "unet":
        config = _autoencoder(directory)
        factor = 2 ** (len(config["block_out_channels"]) - 1)
        height, width = plan.height // factor, plan.width // factor
        if placement.tiling:
            height, width = min(height, TILE), min(width, TILE)
        return item * decoder_values(config, min(placement.decode_frames, _frames(plan)), height, width)
    tile = min(1.0, (8 * TILE) ** 2 / (plan.height * plan.width)) if placement.tiling else 1.0
    if _is_wan(directory):
        return int(tile * wan_decoder_bytes(_config(directory, "vae"), plan))
    return int(tile * scaled(model, plan, directory, placement))


def _frames(plan: Plan) -> int:
    """Frames that are made together; the stills of a sequence are made one by one."""
    return 1 if plan.task == "sequence" else plan.num_frames


def _config(directory: Path | None, folder: str) -> Config:
    return {} if directory is None else optional(directory / folder / "config.json")


def _autoencoder(directory: Path | None) -> Config:
    return {**_KL, **_config(directory, "vae")}


def _is_wan(directory: Path | None) -> bool:
    return _config(directory, "transformer").get("_class_name") == "WanTransformer3DModel" and (
        _config(directory, "vae").get("_class_name") == "AutoencoderKLWan"
    )


def scaled(model: Model, plan: Plan, directory: Path | None, placement: Placement) -> int:
    """The catalogue's figure for the default film, without weights, scaled to this film's size."""
    label = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[placement.dtype]
    near = next((each for each in (label, "bf16", "fp16", "fp32") if each in model.memory_gib), None)
    if near is None:
        return 0
    plain = placement.model_copy(update={"quantize": "", "dtype": {"fp32": "float32"}.get(near, "bfloat16")})
    weights = sum(part.loaded for part in parts(model, directory, plain))
    beside = max(model.memory_gib[near] * 2**30 - weights, 0.05 * weights)
    (width, height), frames = model.sizes[0], model.num_frames.default
    volume = plan.width * plan.height * _frames(plan) / (width * height * frames)
    return int(beside * volume * BYTES[placement.dtype] / BYTES[plain.dtype])


def unet_values(config: Config, rows: int, height: int, width: int, transformer: int) -> int:
    """Peak number of values of the 3D U-Net for `rows` latent frames of `height` and `width`; `transformer` is what a
    transformer holds, in units of its level's width."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    last = len(widths) - 1
    tokens = [rows * math.ceil(height / 2**i) * math.ceil(width / 2**i) for i in range(last + 1)]

    def layer(inside: float, out: int, level: int, attends: bool) -> int:
        return int(max(3 * inside, inside + 3 * out, 5 * out, transformer * out * attends) * tokens[level])

    skips, most, before = [int(widths[0] * tokens[0])], 0, int(widths[0])
    for level, (out, kind) in enumerate(zip(widths, config["down_block_types"], strict=True)):
        for _ in range(layers):
            most = max(most, sum(skips) + layer(before, out, level, kind.startswith("Cross")))
            skips.append(out * tokens[level])
            before = out
        if level < last:
            skips.append(out * tokens[level + 1])
    hidden = widths[-1] * tokens[-1]
    most = max(most, sum(skips) + hidden + layer(widths[-1], widths[-1], last, attends=True))
    for place, kind in enumerate(config["up_block_types"]):
        level, begin = last - place, hidden
        for turn in range(layers + 1):
            inside = (hidden + skips.pop()) / tokens[level]
            held = sum(skips) + begin + (hidden if turn else 0)
            most = max(most, held + layer(inside, widths[level], level, kind.startswith("Cross")))
            hidden = widths[level] * tokens[level]
        if level:
            larger = widths[level] * tokens[level - 1]
            most, hidden = max(most, sum(skips) + begin + hidden + 2 * larger), larger
    return int(most)


def decoder_values(config: Config, frames: int, height: int, width: int) -> int:
    """Peak number of values of an AutoencoderKL's decoder for latents of `height` and `width`."""
    widths = list(config["block_out_channels"])[::-1]
    pixels, inside, most = frames * height * width, widths[0], 0
    for level, out in enumerate(widths):
        begin = inside * pixels
        for turn in range(config["layers_per_block"] + 1):
            most = max(most, (begin if turn else 0) + max(3 * inside, inside + 3 * out) * pixels)
            inside = out
        if level < len(widths) - 1:
            most = max(most, begin + out * pixels + 2 * out * 4 * pixels)
            pixels *= 4
    return int(most)


def wan_bytes(config: Config, plan: Plan, item: int) -> int:
    """Peak bytes of Wan's transformer; the two halves of guidance are two calls."""
    down, across = _WAN_PIXELS * config["patch_size"][1], _WAN_PIXELS * config["patch_size"][2]
    frames = math.ceil((1 + math.ceil((_frames(plan) - 1) / _WAN_FRAMES)) / config["patch_size"][0])
    tokens = frames * (plan.height // down) * (plan.width // across)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return int(item * tokens * (_WAN_WIDTHS * width + 2 * config["ffn_dim"]))


def wan_decoder_bytes(config: Config, plan: Plan) -> int:
    """Peak bytes of Wan's decoder, in float32: four frames at a time, and what it caches of the earlier ones."""
    return int(4 * _WAN_DECODED * config["base_dim"] * plan.height * plan.width)


# ---- totals ----


@dataclass(frozen=True)
class Needs:
    """Bytes on the device. `hard` is the peak without pages that the system can reclaim; `host` is what a GPU run takes
    of the machine's memory; `crowded` is the phase with the higher peak."""

    weights: int
    denoise: int
    decode: int
    peak: int
    hard: int
    host: int
    crowded: Literal["denoise", "decode"]


def needs(model: Model, plan: Plan, directory: Path | None, placement: Placement) -> Needs:
    """The memory that one run needs. Raises WeightsError for damaged files."""
    more = tuple(filter(None, [upsampler_part(model, placement) if plan.latent_upsample else None]))
    found = (*parts(model, directory, placement), *more)
    # Weights are quantized after loading, so the unquantized ones are in memory first.
    plain = (*parts(model, directory, placement.model_copy(update={"quantize": ""})), *more)
    live, shown = denoising(model, plan, directory, placement), decoding(model, plan, directory, placement)
    if placement.device == "cuda":
        return _on_gpu(model, found, plain, placement, int(live * _ROUNDED), int(shown * _ROUNDED))
    ours, total = model.family == "unet", sum(part.loaded for part in found)
    process, beside, kernels = _PROCESS if ours else _LIBRARIES, 0, _KERNELS
    convolved = [part for part in found if part.kind != "words"] if ours else []
    if ours and placement.device == "cpu" and placement.dtype == "float32" and not placement.quantize:
        beside = int(_PACKED * sum(part.loaded for part in convolved))
    elif ours:
        kernels += _COPIES * max(part.largest for part in convolved)
    # A pipeline returns all frames at once in float32, and still holds the tensor they were made from.
    frames = placement.batch * plan.num_frames * plan.width * plan.height * 3 * (1 if ours else 15)
    if ours and placement.device == "cpu":
        denoise, decode = (kernels + held + int(_KEPT * held) for held in (live, shown))
    else:
        denoise, decode = kernels + live, max(kernels, int(min(_KEPT * shown, _KEPT_MOST))) + shown
    stays = total - unloaded_bytes(model, directory, placement, bool(plan.loras))
    running = process + stays + beside + frames + max(denoise, decode)
    peak = hard = running
    before = process
    # The U-Net family loads its text encoder last, after the other networks are packed.
    for part in sorted(plain, key=lambda part: part.kind == "words") if ours else plain:
        packed = beside if part.kind == "words" else 0
        hard = max(hard, before + part.loaded + packed)
        mapped = min(part.stored, _MAPPED) if ours else part.stored
        peak = max(peak, before + part.loaded + packed + (mapped if part.cast else 0))
        before += part.loaded
    return Needs(total, denoise, decode, peak, hard, hard, "denoise" if denoise >= decode else "decode")


def _on_gpu(
    model: Model, found: tuple[Part, ...], plain: tuple[Part, ...], placement: Placement, live: int, shown: int
) -> Needs:
    total, first = sum(part.loaded for part in found), sum(part.loaded for part in plain)
    each = {kind: sum(part.loaded for part in found if part.kind == kind) for kind in KINDS}
    # The weights on the GPU while prompts are encoded, while the network runs, while frames are decoded.
    there = (total, total, total)
    if placement.offload == "model":
        there = (each["words"], each["network"], each["decoder"])
    elif placement.offload == "sequential":
        there = (_COPIES * max(part.largest for part in found),) * 3
    moments = (there[0], there[1] + live, there[2] + shown)
    stays = placement.offload == "none"
    peak = _CONTEXT + max(*moments, first if stays else 0)
    # Offloaded networks are in the machine's memory; a pipeline is loaded there first in any case.
    host = _GPU_PROCESS + (0 if stays and model.family == "unet" else first)
    crowded: Literal["denoise", "decode"] = "denoise" if moments[1] >= moments[2] else "decode"
    return Needs(max(there), live, shown, peak, peak, host, crowded)
