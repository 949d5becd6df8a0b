"""The blocks of the 3D U-Net with measured time and shapes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.diffusion.unet3d import Block, TemporalTransformer, UNet3D
from flickbook.explain.record import Record

#: Runs of the network that are measured, after one that is not; the median counts.
RUNS: Final = 3
#: Parts of a block -> what they are called on the page.
PARTS: Final = {
    "resnets": "resnets (space)",
    "temp_convs": "temporal convolutions",
    "attentions": "attention in space and to the prompt",
    "temp_attentions": "temporal attention",
    "downsamplers": "half the size",
    "upsamplers": "twice the size",
}


@dataclass(frozen=True)
class BlockTime:
    """A part of the network: its output's shape (b, c, f, h, w), the median time, its parameters, and the times (ms) of
    its own parts."""

    name: str
    shape: tuple[int, ...]
    milliseconds: float
    parameters: int
    parts: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}


def measured(record: Record) -> dict[str, Any]:
    """Time and shape of each block of the U-Net in the middle step, of the text encoder and of the autoencoder.

    Measured on plain layers, without the packed weights that films are made with on a CPU.
    """
    networks, plan = record.networks, record.plan
    assert networks is not None and record.embedding is not None
    step = next((s for s in record.steps[len(record.steps) // 2 :] if s.answers is not None), None)
    found: dict[str, Any] = {"runs": RUNS}
    ids = networks.tokenizer([plan.prompt])
    with torch.inference_mode():
        found["text_encoder"] = {
            "milliseconds": _median(lambda: networks.embed([plan.prompt]), networks.device),
            "shape": [1, *record.embedding.shape],
            "tokens": int(ids.shape[1]),
            "parameters": _count(networks.text_encoder),
        }
        latents = record.steps[-1].x0[:, :1].to(networks.device)
        found["decoder"] = {
            "milliseconds": _median(lambda: list(networks.decode(latents)), networks.device),
            "shape": [1, *record.frames.shape[1:]],
        }
        found["unet"] = {"parameters": _count(networks.unet)}
        if step is not None:
            found["unet"]["blocks"] = [each.to_dict() for each in _blocks(networks, step, record.embedding)]
    return found


def _count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _median(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(RUNS + 1):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times[1:]), 3)


class _Clock:
    """Times and output shapes of modules in the runs of a network, by name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: dict[str, list[float]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def on(self, name: str, module: nn.Module) -> Iterator[Any]:
        began = [0.0]

        def enter(module: nn.Module, arguments: Any) -> None:
            _wait(self.device)
            began[0] = time.perf_counter()

        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            _wait(self.device)
            self.times.setdefault(name, []).append(1000 * (time.perf_counter() - began[0]))
            self.shapes[name] = tuple((output[0] if isinstance(output, tuple) else output).shape)

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave)


def _top(unet: UNet3D) -> Iterator[tuple[str, nn.Module]]:
    """The parts of the network in the order in which they run."""
    yield "conv_in", unet.conv_in
    yield "transformer_in", unet.transformer_in
    for number, block in enumerate(unet.down_blocks):
        yield f"down_blocks.{number}", block
    yield "mid_block", unet.mid_block
    for number, block in enumerate(unet.up_blocks):
        yield f"up_blocks.{number}", block
    yield "conv_out", unet.conv_out


def _blocks(networks: TextToVideo, step: Any, embedding: Tensor) -> list[BlockTime]:
    unet, frames = networks.unet, step.x0.shape[1]
    weight = next(unet.parameters())
    context = embedding.to(weight)[None].expand(len(step.answers), -1, -1)
    answers = unet.prompt(context)
    x, t = step.x_t[None].to(weight), torch.tensor(step.timestep, device=weight.device)
    rate = torch.tensor([8.0], device=weight.device)
    clock, inner = _Clock(weight.device), dict[str, list[str]]()
    with ExitStack() as stack:
        for name, module in _top(unet):
            for handle in clock.on(name, module):
                stack.callback(handle.remove)
            inner[name] = []
            for part in PARTS if isinstance(module, Block) else ():
                for number, each in enumerate(getattr(module, part, None) or ()):
                    inner[name].append(f"{name}.{part}.{number}")
                    for handle in clock.on(inner[name][-1], each):
                        stack.callback(handle.remove)
        for _ in range(RUNS + 1):
            unet(x, t, answers, rate)
    found = []
    for name, module in _top(unet):
        b, c, h, w = clock.shapes[name]
        parts = {part: sum(_of(clock, each) for each in inner[name] if f".{part}." in each) for part in PARTS}
        kept = {part: round(ms, 3) for part, ms in parts.items() if ms}
        if isinstance(module, TemporalTransformer):
            kept = {"temp_attentions": round(_of(clock, name), 3)}
        found.append(BlockTime(name, (b // frames, c, frames, h, w), round(_of(clock, name), 3), _count(module), kept))
    return found


def _of(clock: _Clock, name: str) -> float:
    return statistics.median(clock.times[name][1:])
