"""A model of the published size, text-to-video-ms-1.7b with random weights, beside stock diffusers.

A whole film would take an hour, so what is timed is one guided step of 8 frames of 256 x 256; DeepCache takes one
period of its steps and counts as seconds for one. One precision after the other, because two networks in fp32 are
11 GB. The weights mean nothing: how near two answers are to each other is that of rounding alone, and nothing that
depends on how a film emerges (balanced, the quality of caches) is measured here.
"""

from __future__ import annotations

import gc
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from bench import replica
from bench.comparison import compare
from bench.protocol import interleave, measured
from bench.rivals import deepcache, openvino, ours, stock, tuned
from bench.roofline import operations, peaks
from bench.subject import Side, Subject, name_of
from flickbook.diffusion.text_to_video import noise

MODEL, PLACE = "text-to-video-ms-1.7b", Path("build/bench/replica")
SHAPE, TOKENS, WIDTH = (4, 8, 32, 32), 77, 1024
UNMEASURED = (
    "balanced: how many answers it foretells depends on the film, and films of random weights mean nothing",
    "torch.compile of the whole network: it takes longer than all turns together; `--compile` does it",
    "OpenVINO: left out by `--without-openvino`; once its conversion, at 12 GB, had not ended after 7 minutes",
)
#: Bytes with room for OpenVINO's process beside two networks.
_CONVERTING = 21e9
#: Bytes of two networks in a precision, and room for what they compute.
_NEEDED = {torch.float32: 15e9, torch.bfloat16: 9e9}


def built() -> Path:
    """The directory, written the first time: 3.7 GB."""
    last = PLACE / "model_index.json"
    if not (last.exists() and (PLACE / "text_encoder/config.json").exists()):
        last.unlink(missing_ok=True)  # of one without words
        replica.build(MODEL, PLACE)
    return PLACE


def subject_of(directory: Path) -> Subject:
    """One step from noise, with vectors in place of words."""
    words = torch.randn(2, 1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return Subject(directory, noise([0], SHAPE), words[0], words[1], steps=1, guidance=9.0, whole=False)


def measure(pairs: int, compiling: bool = False, converting: bool = False) -> dict[str, Any]:
    """fp32, then bf16."""
    directory = built()
    subject = subject_of(directory)
    found: dict[str, Any] = {"tflop": operations(directory, SHAPE, TOKENS), "missing": {}, "void": False}
    found["peaks"] = peaks()
    tried = (True, not compiling, not converting)
    found["tokens"] = TOKENS
    found["unmeasured"] = [why for why, absent in zip(UNMEASURED, tried, strict=True) if absent]
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        if (free := psutil.virtual_memory().available) < _NEEDED[dtype]:
            found["missing"][name] = f"needs {_NEEDED[dtype] / 1e9:.0f} GB of memory and {free / 1e9:.0f} GB are free"
            continue
        found[name] = _one(subject, dtype, pairs, compiling, converting, found["missing"])
        found["void"] = found["void"] or found[name]["void"]
        gc.collect()
    found["across"] = _across(subject, pairs)
    found["void"] = found["void"] or found["across"]["void"]
    return found


def _one(
    subject: Subject, dtype: torch.dtype, pairs: int, compiling: bool, converting: bool, missing: dict[str, str]
) -> dict[str, Any]:
    """Ours beside stock in one precision, and what goes around stock."""
    name = name_of(dtype)
    # First, because converting holds the network twice and lets go of it again.
    worker, converted = _converted(subject, name, missing) if converting else (None, [])
    pipeline = stock.pipeline_of(subject) if name == "fp32" else tuned.pipeline_of(subject)
    counts = {} if name == "fp32" else tuned.threads(subject, pipeline)
    side = stock.side(subject, pipeline) if name == "fp32" else tuned.side(subject, pipeline, counts)
    sides: list[Side] = [*ours.sides(subject, dtype), side, deepcache.side(subject, pipeline, 3), *converted]
    if name == "bf16" and compiling:
        compiled = tuned.compiled(subject, tuned.pipeline_of(subject), tuned.best_of(counts))
        if isinstance(compiled, str):
            missing["stock tuned and compiled"] = compiled
        else:
            sides.append(compiled)
    try:
        return compare(sides, pairs, side.name)
    finally:
        if worker:
            worker.close()


def _converted(
    subject: Subject, name: str, missing: dict[str, str]
) -> tuple[openvino.Worker, list[Side]] | tuple[None, list[Side]]:
    """OpenVINO's side, or none, with the reason."""
    if (free := psutil.virtual_memory().available) < _CONVERTING:
        missing[f"OpenVINO, {name}"] = f"needs {_CONVERTING / 1e9:.0f} GB of memory and {free / 1e9:.0f} GB are free"
        return None, []
    keep = PLACE / "openvino"
    keep.mkdir(exist_ok=True)
    try:
        return openvino.sides(subject, (name.replace("fp32", "f32"),), keep)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        missing[f"OpenVINO, {name}"] = f"{type(error).__name__}: {error}"[:300]
        return None, []


def _across(subject: Subject, pairs: int) -> dict[str, Any]:
    """Ours in bf16 against the default call, which is fp32."""
    quick, pipeline = ours.networks_of(subject, torch.bfloat16), stock.pipeline_of(subject)
    calls = {"ours, bf16": partial(ours.made, quick, subject, torch.bfloat16), "stock, fp32": None}
    calls["stock, fp32"] = partial(stock.film, pipeline, subject)
    turns = measured(lambda: interleave(calls, pairs, "ours, bf16"))  # type: ignore[arg-type]
    return {"turns": turns.to_dict(), "void": turns.void}
