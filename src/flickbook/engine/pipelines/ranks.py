"""One film on several devices: the denoising networks of a pipeline share the tokens of a film (context parallelism).

This process, rank 0, runs the pipeline. Each other rank is a process with the same networks on a device of its own,
which waits for calls. Before each call of a network, rank 0 sends its inputs to all; then every rank computes its part
of the tokens, and attention exchanges heads between them (Ulysses; Jacobs et al. 2023, arXiv 2309.14509). Schedulers,
text encoders and autoencoders run on rank 0 only, so a film is cancelled, previewed and resumed as on one device.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

from flickbook.engine.family import Setup
from flickbook.errors import RequestError

#: Seconds that an exchange may take before a lost process is noticed. Loading a large model comes before the first.
_PATIENCE: Final = 1800
_PARTS: Final = ("transformer", "transformer_2")
#: Networks whose films were found equal. diffusers 0.42 has plans for more, but LTX-Video's attention fails: its mask
#: has all heads, and each rank has a part of them.
_TESTED: Final = frozenset(("WanTransformer3DModel",))


#: The ranks of the pipeline that was split last: a process can be in one group only.
_active: list[Ranks] = []


class Ranks:
    """The other ranks of a loaded pipeline: `degree` - 1 processes, which end with this one."""

    def __init__(self, setup: Setup, degree: int) -> None:
        """Starts the processes, and ends those of another pipeline. Raises RequestError if there are fewer GPUs than
        `degree`.
        """
        if setup.placement.device.startswith("cuda") and (count := torch.cuda.device_count()) < degree:
            limit = f"this process can use {count} GPUs"
            raise RequestError("ulysses_degree", degree, limit, "lower it, or add GPUs to CUDA_VISIBLE_DEVICES")
        for other in list(_active):
            other.close()
        _active.append(self)
        self._place = tempfile.TemporaryDirectory(prefix="flickbook-ranks-")
        meeting = f"file://{Path(self._place.name) / 'meeting'}"
        spawn = multiprocessing.get_context("spawn")
        self.processes = [
            spawn.Process(target=_follow, args=(setup, rank, degree, meeting), name=f"rank {rank}", daemon=True)
            for rank in range(1, degree)
        ]
        for process in self.processes:
            process.start()
        self._device = _join(setup.placement.device, 0, degree, meeting)

    def split(self, pipe: Any, degree: int) -> None:
        """Splits the denoising networks of the pipeline. Call once; raises ValueError for a network that cannot be."""
        for name, network in _networks(pipe).items():
            _enable(network, degree)
            network.forward = partial(self._lead, name, network.forward)

    def _lead(self, name: str, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One call of a network on all ranks. Raises RuntimeError if one of them ended."""
        for process in self.processes:
            if not process.is_alive():
                raise RuntimeError(f"{process.name} of this film ended with exit code {process.exitcode}")
        _send((name, arguments, named), self._device)
        return forward(*arguments, **named)

    def close(self) -> None:
        """Ends the other ranks. May be called twice."""
        if self not in _active:
            return
        _active.remove(self)
        for process in self.processes:
            process.kill()
            process.join()
        dist.destroy_process_group()
        self._place.cleanup()


def split(pipe: Any, setup: Setup) -> Ranks | None:
    """Shares the work of a loaded pipeline's films with other processes; None if its networks cannot be split, or are
    offloaded.
    """
    networks = _networks(pipe).values()
    known = bool(networks) and all(type(network).__name__ in _TESTED for network in networks)
    if not known or setup.placement.offload != "none":
        return None
    ranks = Ranks(setup, setup.placement.ulysses_degree)
    ranks.split(pipe, setup.placement.ulysses_degree)
    return ranks


def _networks(pipe: Any) -> dict[str, Any]:
    return {name: getattr(pipe, name) for name in _PARTS if getattr(pipe, name, None) is not None}


def _follow(setup: Setup, rank: int, degree: int, meeting: str) -> None:
    """The main function of another rank: takes part in calls until it is ended."""
    from flickbook.engine.pipelines.family import PipelineFamily  # imported late: this module is imported by it

    device = _join(setup.placement.device, rank, degree, meeting)
    placement = setup.placement.model_copy(update={"device": str(device), "ulysses_degree": 1})
    networks = _networks(PipelineFamily.load(replace(setup, placement=placement)).pipe)
    for network in networks.values():
        _enable(network, degree)
    with torch.no_grad():
        while True:
            name, arguments, named = _receive(device)
            networks[name](*arguments, **named)


def _join(device: str, rank: int, degree: int, meeting: str) -> torch.device:
    """Joins the group of processes; returns the device of this rank."""
    here = torch.device("cuda", rank) if device.startswith("cuda") else torch.device("cpu")
    if here.type == "cuda":
        torch.cuda.set_device(here)
    backend, patience = ("nccl" if here.type == "cuda" else "gloo"), timedelta(seconds=_PATIENCE)
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=degree, timeout=patience)
    return here


def _enable(network: Any, degree: int) -> None:
    from diffusers import ContextParallelConfig

    with _counted():
        # Without `ulysses_anything` the tokens of a film would have to be a multiple of the degree.
        config = ContextParallelConfig(ulysses_degree=degree, ulysses_anything=True)  # type: ignore[no-untyped-call]
        network.enable_parallelism(config=config)


@contextmanager
def _counted() -> Iterator[None]:
    """diffusers divides by the number of accelerators, which is 0 on a CPU."""
    count = torch.accelerator.device_count
    if count():
        yield
        return
    torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count


class _Tensor:
    """Stands for a tensor in a message; the tensor itself follows."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype


def _send(message: Any, device: torch.device) -> None:
    """Sends nested tuples, lists and dictionaries with tensors from rank 0 to all others."""
    tensors: list[torch.Tensor] = []

    def take(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            return _Tensor(value)
        return value

    dist.broadcast_object_list([_mapped(take, message)], src=0, device=device)
    for tensor in tensors:
        dist.broadcast(tensor.to(device).contiguous(), src=0)


def _receive(device: torch.device) -> Any:
    """What `_send` sent."""
    box: list[Any] = [None]
    dist.broadcast_object_list(box, src=0, device=device)

    def make(value: Any) -> Any:
        if isinstance(value, _Tensor):
            tensor = torch.empty(value.shape, dtype=value.dtype, device=device)
            dist.broadcast(tensor, src=0)
            return tensor
        return value

    return _mapped(make, box[0])


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Nested tuples, lists and dictionaries with each leaf changed, in order."""
    if isinstance(value, dict):
        return {name: _mapped(change, each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(change, each) for each in value)
    return change(value)
