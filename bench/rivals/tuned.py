"""diffusers' pipeline as well as it can be set up on this processor: bf16, channels-last convolutions, the best number
of threads, and `torch.compile` with frozen weights. Compiling is apart: what it takes, and after how many films it has
paid for itself.

It could not be done for the whole network at once: `.to(memory_format=torch.channels_last)` raises on its weights of
five dimensions, and so each convolution is converted by itself. `compile_repeated_blocks`, which is quicker, refuses
UNet3DConditionModel, so the whole network is compiled.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.rivals import stock
from bench.subject import Side, Subject, at, best_threads, name_of

#: Steps that the number of threads is chosen by.
_TRIED = 3
#: What cannot be had from the library, in words for the report.
LIMITS = (
    "channels-last is set on each Conv2d by itself (the whole-network call raises on weights of five dimensions)",
    "`compile_repeated_blocks` refuses this network, so the whole of it is compiled",
)


def pipeline_of(subject: Subject, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The stock pipeline in bf16 with its 2D convolutions in channels-last memory."""
    pipeline = stock.pipeline_of(subject, dtype)
    for network in (pipeline.unet, pipeline.vae) if subject.whole else (pipeline.unet,):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return pipeline


def threads(subject: Subject, pipeline: Any) -> dict[int, float]:
    """Seconds of a few steps at one, half and all of the threads that PyTorch takes by itself."""
    most = subject.threads
    call = partial(stock.film, pipeline, subject, _TRIED if subject.whole else 1)
    with torch.inference_mode():
        return best_threads(call, sorted({1, max(1, most // 2), most}), time.perf_counter, 3 if subject.whole else 1)


def best_of(counts: dict[int, float]) -> int:
    """The number of threads that took least."""
    return min(counts, key=lambda count: counts[count])


def side(subject: Subject, pipeline: Any, counts: dict[int, float] | None = None) -> Side:
    """Without compiling; `counts` is what `threads` found, if it was asked."""
    kind, counts = name_of(pipeline.unet.dtype), counts or threads(subject, pipeline)
    best = best_of(counts)
    tried = ", ".join(f"{count}: {seconds:.2f} s" for count, seconds in counts.items())
    notes = [f"{best} threads, the best of {tried} for a few steps", LIMITS[0]]
    return Side(f"stock tuned, {kind}", at(best, partial(stock.film, pipeline, subject)), kind, notes=notes)


def compiled(subject: Subject, pipeline: Any, count: int) -> Side | str:
    """With its networks compiled, which changes the pipeline; or in words why not."""
    if not shutil.which("g++"):
        return "torch.compile needs a C++ compiler, and there is none here"
    pipeline.unet.compile(options={"freezing": True})
    if subject.whole:
        pipeline.vae.decoder.compile(options={"freezing": True})
    call = at(count, partial(stock.film, pipeline, subject))
    began = time.perf_counter()
    try:
        call()
    except Exception as error:  # whatever the compiler raises is the finding
        return f"torch.compile failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    first, began = time.perf_counter() - began, time.perf_counter()
    call()
    prepared = first - (time.perf_counter() - began)
    kind = name_of(pipeline.unet.dtype)
    return Side(f"stock tuned and compiled, {kind}", call, kind, prepared=max(prepared, 0.0), notes=[LIMITS[1]])
