"""An update of a training as one CUDA graph.

An update of a small network is thousands of short kernels, and starting them one by one takes a GPU longer than running
them. A CUDA graph records them once and starts all of them in one call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Calls of a shape that run as usual before the graph is recorded: they create the optimizer's state and the kernels.
_WARM = 3
_Function = Callable[..., tuple[Tensor, ...]]


class Graphed:
    """A function of tensors that a GPU runs as a CUDA graph, one for each combination of shapes.

    The function must not wait for the CPU, and tensors that it keeps must not be replaced. Only the values of its
    inputs change from call to call. On other devices it is called as it is. The next call overwrites its results.
    """

    def __init__(self, function: _Function) -> None:
        self._function = function
        self._seen: Counter[Any] = Counter()
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]] = {}
        self._pool: Any = None
        self._stream: Any = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if inputs[0].device.type != "cuda":
            return self._function(*inputs)
        key = tuple((tuple(each.shape), each.dtype) for each in inputs)
        self._seen[key] += 1
        if self._seen[key] <= _WARM:
            return self._aside(inputs)
        if key not in self._graphs:
            self._graphs[key] = self._record(inputs)
        graph, places, results = self._graphs[key]
        for place, each in zip(places, inputs, strict=True):
            place.copy_(each, non_blocking=True)
        graph.replay()
        return results

    def _aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A usual call, on a stream of its own as PyTorch asks for before a graph is recorded."""
        # Memory is kept for each stream, so all calls use one.
        self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream, here = self._stream, torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            results = self._function(*inputs)
        here.wait_stream(stream)
        return results

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]:
        graph, places = torch.cuda.CUDAGraph(), [each.clone() for each in inputs]
        # Other threads, such as those that prepare batches, may use the GPU meanwhile. The graphs share their memory:
        # each writes all that it reads.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = self._function(*places)
        self._pool = graph.pool()
        return graph, places, results
