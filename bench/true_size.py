"""A model of the published size, text-to-video-ms-1.7b with random weights, beside stock diffusers.

A whole film would take an hour, so what is timed is one guided step of 8 frames of 256 x 256; DeepCache takes one
period of its steps and counts as seconds for one. One precision after the other, because two networks in fp32 are
11 GB. The weights mean nothing: how near two answers are to each other is that of rounding alone, and nothing that
depends on how a film emerges (balanced, the quality of caches) is measured here.
"""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from bench import replica
from bench.comparison import compare
from bench.process import last_line
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

#: A process that loads one side, and with "step" makes one.
_LOAD = """
import json, resource, sys, threading, torch
from pathlib import Path
from diffusers import TextToVideoSDPipeline
from bench.rivals import ours, stock
from bench.true_size import own, subject_of
dtype, subject, peaks = getattr(torch, sys.argv[2]), subject_of(Path(sys.argv[3])), [own()]
before, ended = (peaks[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024), threading.Event()
def watch():
    while not ended.wait(0.002):
        peaks[0] = max(peaks[0], own())
watcher = threading.Thread(target=watch)
watcher.start()
kept = ours.networks_of(subject, dtype) if sys.argv[1] == "ours" else stock.pipeline_of(subject, dtype)
if sys.argv[4] == "step":
    ours.made(kept, subject, dtype) if sys.argv[1] == "ours" else stock.film(kept, subject)
ended.set()
watcher.join()
whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([peaks[0] - before[0], whole - before[1], peaks[0]]))
"""


def own() -> int:
    """Bytes that are this process's alone; pages of a file that is only mapped can be dropped, and do not count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def built() -> Path:
    """The directory, written the first time: 3 GB."""
    if not (PLACE / "model_index.json").exists():
        replica.build(MODEL, PLACE, ("unet", "scheduler", "vae"))
    return PLACE


def subject_of(directory: Path) -> Subject:
    """One step from noise, with vectors in place of words."""
    words = torch.randn(2, 1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return Subject(directory, noise([0], SHAPE), words[0], words[1], steps=1, guidance=9.0, whole=False)


def measure(pairs: int, compiling: bool = False, converting: bool = False) -> dict[str, Any]:
    """fp32, then bf16, then the memory of loading."""
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
    found["loading"] = {dtype: loading(directory, dtype) for dtype in ("float32", "bfloat16")}
    found["memory"] = memory(directory)
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


def loading(directory: Path, dtype: str) -> dict[str, dict[str, float]]:
    """What loading adds to the peak of a process, over the bytes of the weights: its own, and with mapped files."""
    parts, found = {"ours": ("unet", "vae"), "stock": ("unet",)}, {}
    for name, loaded in parts.items():
        tensors = [each for part in loaded for each in replica.tensors_of(replica.MODELS[MODEL].parts[part]).values()]
        size = sum(math.prod(shape) for shape, _ in tensors) * getattr(torch, dtype).itemsize
        taken = _peaks(name, dtype, directory, "load")
        found[name] = {"own": taken[0] / size, "with_files": taken[1] / size}
    return found


def memory(directory: Path) -> dict[str, int]:
    """Peak bytes of a process, its own alone, that loads and makes a step: ours as it is placed, stock by default."""
    calls = {"ours, bf16": ("ours", "bfloat16"), "stock, fp32": ("stock", "float32")}
    return {name: _peaks(*call, directory, "step")[2] for name, call in calls.items()}


def _peaks(side: str, dtype: str, directory: Path, until: str) -> list[int]:
    """Bytes that a fresh process takes until it has loaded, or made a step: its own and all of it, over what it began
    with; and its own with that."""
    found = last_line([sys.executable, "-W", "ignore", "-c", _LOAD, side, dtype, str(directory), until])
    return [int(each) for each in json.loads(found)]
