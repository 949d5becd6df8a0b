"""What a training needs, before it starts: memory and hours, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from flickbook.learn.compute import memory
from flickbook.learn.compute.throughput import matmul_rate
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.target import Batch, Condition, Target, autocast, dtype_of

#: The share of the rate of a large matrix product that an update reaches, in float32 and in other precisions. On
#: processors the built-in model reached 0.53 in float32 (AVX2) and 0.38 in bfloat16.
_FLOAT32, _OTHER = 0.5, 0.3
#: Of each trained weight, beside itself: gradient, two moments, the best one, and for a moment the next best one.
_TRAINED = 5


@dataclass(frozen=True)
class Cost:
    """Bytes of memory that a training needs and that are free, and an estimate of its seconds.

    `examples_bytes` are those of the latents and embeddings of all clips, in the host's memory; on a processor they are
    part of `memory_bytes`.
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
    clips = max(1, config.batch // processes)
    kept, forward, both = _update(target, (clips, *shape), [condition] * clips, fps, config)
    # The prior's examples run after the clips, so they need more memory only if they are more. Each has a second
    # forward pass, without the LoRA.
    prior = config.prior // processes / clips
    operations = both + prior * (both + forward)
    share = _FLOAT32 if dtype_of(config) == torch.float32 else _OTHER
    rate = matmul_rate(target.device, dtype=dtype_of(config)) * share
    beside = examples if target.device.type == "cpu" else 0
    return Cost(
        memory.PROCESS + _lasting(target, config) + max(round(max(1.0, prior) * kept), sampled) + beside,
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


def _update(
    target: Target, shape: tuple[int, ...], conditions: Sequence[Condition], fps: float, config: TuneConfig
) -> tuple[int, float, float]:
    """Bytes kept for the backward pass of a batch, and operations of its forward pass and of both passes."""
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
        batch = Batch(torch.empty(shape), conditions, [fps] * shape[0])
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = target.losses(batch, torch.Generator()).each.mean()
        forward = float(counter.get_total_flops())
        loss.backward()  # type: ignore[no-untyped-call]
    for network in target.networks.values():
        network.zero_grad(set_to_none=True)
    return sum(kept.values()), forward, float(counter.get_total_flops())


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
