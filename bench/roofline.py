"""How near the networks come to what this processor can do.

Peaks are the best of several runs: products of large matrices by each of PyTorch's two libraries, and a copy that no
cache holds. Operations are counted on the plain networks, without memory, as the stock ones compute them; so ours is
also given credit for what it leaves out, and a second column has what it really computes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import warm
from bench.protocol import interleave, measured
from bench.rivals import ours, stock
from bench.subject import Subject, at
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.hub.manifest import read_config

_SIDE, _COPIED = 2048, 64 * 2**20  # rows and columns; float32 numbers


def best(call: Callable[[], object], runs: int = 7) -> float:
    """The shortest of several runs, in seconds."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


@torch.inference_mode()
def peaks(side: int = _SIDE, copied: int = _COPIED) -> dict[str, float]:
    """GFLOP/s of matrix products, and GB/s of a copy (read and written bytes together)."""
    found, work = {}, 2 * side**3 / 1e9
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        a, b = torch.randn(side, side, dtype=dtype), torch.randn(side, side, dtype=dtype)
        found[f"matmul {name}, PyTorch's default"] = work / best(partial(torch.mm, a, b))
        try:
            packed = torch.ops.mkldnn._reorder_linear_weight(b, side)
            product = partial(torch.ops.mkldnn._linear_pointwise, a, packed, None, "none", [], "none")
            found[f"matmul {name}, oneDNN packed"] = work / best(product)
        except (RuntimeError, AttributeError):  # these operators are internal to PyTorch
            continue
    source = torch.ones(copied)
    target = torch.empty_like(source)
    found["copy, GB/s"] = 2 * source.nbytes / 1e9 / best(lambda: target.copy_(source))
    return found


def counted(call: Callable[[], object]) -> float:
    """Operations in TFLOP, the attention's included."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops() / 1e12


def operations(directory: Path, shape: tuple[int, int, int, int], tokens: int) -> dict[str, float]:
    """TFLOP of one guided step on latents (c, f, h, w) and of decoding them, counted on networks without memory."""
    from diffusers import UNet3DConditionModel

    config = read_config(directory / "unet/config.json")
    with torch.device("meta"):
        mine: nn.Module = UNet3D(UNet3DConfig.from_dict(config)).eval()
        theirs = UNet3DConditionModel.from_config(config).eval()
        decoder = Autoencoder(AutoencoderConfig.from_dict(read_config(directory / "vae/config.json"))).eval()
        x, timestep = torch.empty(1, *shape), torch.tensor(500)
        words, pictures = torch.empty(2, tokens, config["cross_attention_dim"]), torch.empty(1, shape[0], *shape[2:])
        return {
            "step": counted(lambda: theirs(torch.cat([x] * 2), timestep, words)),
            "step, ours": counted(lambda: mine(x, timestep, words)),
            "decode": shape[1] * counted(lambda: decoder.decode(pictures)),
        }


def measure(pairs: int) -> dict[str, Any]:
    """Peaks, and what ours and stock reach in a guided step and in decoding, on the built-in model."""
    with tempfile.TemporaryDirectory() as folder:
        directory = warm.comparable(Path(folder))
        size = (warm.FRAMES, warm.SIZE, warm.SIZE)
        subject = Subject.of(directory, warm.PROMPT, warm.SEED, 1, warm.GUIDANCE, size)
        work = operations(directory, tuple(subject.latents.shape[1:]), subject.context.shape[1])  # type: ignore[arg-type]
        found = {"peaks": peaks(), "tflop": work}
        calls = calls_of(subject)
        turns = measured(lambda: interleave(calls, 3 * pairs, "step: ours, fp32", warm=2))
    return found | {"turns": turns.to_dict(), "void": turns.void, "reached": reached(turns.medians(), work)}


def calls_of(subject: Subject) -> dict[str, Callable[[], object]]:
    """One guided step and one decoding, of each side."""
    calls: dict[str, Callable[[], object]] = {}
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        networks, pipeline = ours.networks_of(subject, dtype), stock.pipeline_of(subject, dtype)
        words = torch.cat([subject.negative, subject.context]).to(dtype)
        x, timestep = subject.latents.to(dtype), torch.tensor(500)
        prompt = networks.unet.prompt(words)
        calls[f"step: ours, {name}"] = at(subject.threads, partial(networks.unet, x, timestep, prompt))
        calls[f"step: stock, {name}"] = at(subject.threads, partial(pipeline.unet, torch.cat([x] * 2), timestep, words))
        decoded = partial(networks.decode, subject.latents[0])
        calls[f"decode: ours, {name}"] = at(subject.threads, lambda decoded=decoded: list(decoded()))  # type: ignore[misc]
        calls[f"decode: stock, {name}"] = at(subject.threads, partial(pipeline.decode_latents, x))
    return calls


def reached(seconds: dict[str, float], work: dict[str, float]) -> dict[str, float]:
    """GFLOP/s of each, by the stock networks' operations."""
    return {name: 1e3 * work[name.partition(":")[0]] / taken for name, taken in seconds.items() if "again" not in name}
