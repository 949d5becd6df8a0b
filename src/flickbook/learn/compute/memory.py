"""How much memory a training needs, so that one that cannot fit is refused before it starts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flickbook.errors import RequestError

#: Bytes of a float32 weight, and copies of it that a training keeps: the weight, its gradient, the optimizer's moments.
_BYTES, _COPIES = 4, 4
#: The process before anything is loaded: Python, torch and its kernels. On a GPU, of whose free memory these are no
#: part, it is left for what kernels need while they run.
PROCESS = 400 * 2**20
GIB = 2**30


def activations(network: nn.Module, forward: Callable[[nn.Module], Tensor]) -> int:
    """Bytes that `forward` keeps for the backward pass, counted on shapes alone. `forward` gets a copy of the network
    on the meta device. Computing in bfloat16 halves most of them, so this is an upper bound."""
    shapes = copy.deepcopy(network).to("meta")
    weights = {parameter.untyped_storage()._cdata for parameter in shapes.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # otherwise the address of a freed tensor could be used again

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        forward(shapes)
    return sum(kept.values())


def required(parameters: int, averages: int, kept: int, others: int = 0) -> int:
    """Bytes of a training: `parameters` with gradients, moments and `averages`, `kept` activations, `others` loaded."""
    return PROCESS + parameters * _BYTES * (_COPIES + averages) + kept + others


def free(device: torch.device, processes: int = 1) -> int:
    """Bytes that a training can have. On a GPU: what is free there, and what this process has taken already, used or
    kept for later. On a processor: this process's share of the machine's free memory, beside what it uses now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    from flickbook.engine.memory.machine import Machine  # the training loop alone runs without its packages

    return Machine.here().memory_free // processes


def held(device: torch.device) -> int:
    """Bytes of a GPU that this process uses, which `free` counts too; 0 on a processor."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def refuse_beyond(need: int, free: int, field: str, value: object, remedy: str) -> None:
    """Raise RequestError for `field` if `need` bytes are more than the `free` ones."""
    if need > free:
        limit = f"the training needs about {need / GIB:.1f} GiB of memory, and {free / GIB:.1f} GiB are free"
        raise RequestError(field, value, limit, remedy)
