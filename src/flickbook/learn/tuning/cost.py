"""What a training needs, before it starts: memory, from shapes alone, and hours, estimated or measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from flickbook.diffusion import heap
from flickbook.learn.compute import memory
from flickbook.learn.compute.throughput import matmul_rate
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.target import Batch, Condition, Target, autocast, dtype_of

#: The share of the rate of a large matrix product that an update of a large network may reach, in float32 and in other
#: precisions. The built-in model reached 0.53 in float32 (AVX2), and 0.07 in bfloat16 on a processor with AMX.
_FLOAT32, _OTHER = 0.5, 0.3
#: Of each trained weight, beside itself: gradient, two moments, the best one, and for a moment the next best one.
_TRAINED = 5


@dataclass(frozen=True)
class Cost:
    """Bytes of memory that a training needs and that are free, and an estimate of its seconds.

    `examples_bytes` are those of the latents and embeddings of clips and prior examples, in the host's memory; on a
    processor they are part of `memory_bytes`.
    """

    memory_bytes: int
    free_bytes: int
    operations: float
    seconds: float
    examples_bytes: int = 0


def cost(
    target: Target,
    shape: Sequence[int],
    condition: Condition,
    fps: float,
    config: TuneConfig,
    processes: int = 1,
    sampled: int = 0,
    examples: int = 0,
) -> Cost:
    """The cost of a training on latents of `shape` (c, f, h, w), the largest of its buckets.

    Nothing is computed: an update runs on tensors without data. Memory is the networks, the optimizer, and what the
    backward pass keeps, or the `sampled` bytes that a sample brings to the device if these are more; seconds assume
    a share of this device's matrix-product rate. `examples` are the bytes of all latents and embeddings.
    """
    passes = _passes(target, config, processes)
    counted = [_pass(target, (count, *shape), condition, fps, config, known) for count, known in passes]
    kept, operations = max(kept for kept, _ in counted), sum(operations for _, operations in counted)
    share = _FLOAT32 if dtype_of(config) == torch.float32 else _OTHER
    rate = matmul_rate(target.device, dtype=dtype_of(config)) * share
    beside = examples if target.device.type == "cpu" else 0
    return Cost(
        memory.PROCESS + _lasting(target, config) + max(kept, sampled) + beside,
        memory.free(target.device, processes),
        operations,
        operations * config.iterations / rate,
        examples,
    )


def _lasting(target: Target, config: TuneConfig) -> int:
    """Bytes of the networks and the optimizer on the target's device, all through the training."""
    device = target.device.type
    trained = adapter.trained(target.networks).values()
    state = _TRAINED * 4 * sum(each.numel() for each in trained if each.device.type == device)
    if device == "cuda":
        # Measured: what else is there stays too, such as an autoencoder, or the model of an earlier film.
        blocks = target.units() if config.offload else ()
        moved = (sum(each.nbytes for each in block.parameters()) for block in blocks)
        return memory.held(target.device) + state + max(moved, default=0)
    # Pages of a weights file count as free memory, although the process maps them.
    networks = [network for network in target.networks.values() if not config.offload]
    return state + sum(each.nbytes for network in networks for each in network.parameters())


def seconds(target: Target, shape: Sequence[int], condition: Condition, fps: float, config: TuneConfig) -> float:
    """The measured seconds of an update's forward and backward passes, without its optimizer step."""
    found = 0.0
    with heap.reused():
        for _ in range(2):  # the first one prepares kernels and memory
            began = time.perf_counter()
            for count, known in _passes(target, config, 1):
                batch = Batch(torch.randn(count, *shape), [condition] * count, [fps] * count, known)
                with autocast(target, config):
                    loss = target.losses(batch, torch.Generator().manual_seed(0)).each.mean()
                loss.backward()  # type: ignore[no-untyped-call]
            for network in target.networks.values():
                network.zero_grad(set_to_none=True)
            if target.device.type == "cuda":
                torch.cuda.synchronize(target.device)
            found = time.perf_counter() - began
    return found


def _passes(target: Target, config: TuneConfig, processes: int) -> list[tuple[int, int]]:
    """The passes of an update in one of the processes: examples, and how many of them are prior examples."""
    clips, prior = max(1, config.batch // processes), config.prior // processes
    if target.joint:
        return [(clips + prior, prior)]
    return [(clips, 0), (prior, prior)] if prior else [(clips, 0)]


def _pass(
    target: Target, shape: tuple[int, ...], condition: Condition, fps: float, config: TuneConfig, known: int
) -> tuple[int, float]:
    """Bytes that a batch of latents (b, c, f, h, w), the last `known` of them prior examples, keeps for the backward
    pass, and the operations of both passes."""
    weights = {p.untyped_storage()._cdata for network in target.networks.values() for p in _tensors(network)}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        held.append(tensor)  # otherwise the address of a freed tensor could be used again
        return tensor

    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        FlopCounterMode(display=False) as counter,
        autocast(target, config),
    ):
        batch = Batch(torch.empty(shape), [condition] * shape[0], [fps] * shape[0], known)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = target.losses(batch, torch.Generator()).each.mean()
        loss.backward()  # type: ignore[no-untyped-call]
    for network in target.networks.values():
        network.zero_grad(set_to_none=True)
    return sum(kept.values()), float(counter.get_total_flops())


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
