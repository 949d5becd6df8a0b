"""The memory of text-to-video-ms-1.7b with random weights: loading its networks, and a whole film, in fresh processes.

A film is 16 frames of 256 x 256 from words to pictures, in one step, because steps hold no more than one does. What
counts is a process's own memory: pages of a file that is only mapped can be dropped.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench import replica
from bench.process import last_line
from bench.subject import name_of
from bench.true_size import MODEL, built
from flickbook import generate

PROMPT, FILM = "a panda surfing", {"num_frames": 16, "height": 256, "width": 256}

#: A process that loads the networks of one side, or makes a film.
_LOAD = """
import json, resource, sys, threading, torch
from pathlib import Path
from diffusers import TextToVideoSDPipeline
from bench.held import film, own
from bench.rivals import ours, stock
from bench.true_size import subject_of
dtype, subject, peaks = getattr(torch, sys.argv[2]), subject_of(Path(sys.argv[3])), [own()]
before, ended = (peaks[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024), threading.Event()
def watch():
    while not ended.wait(0.002):
        peaks[0] = max(peaks[0], own())
watcher = threading.Thread(target=watch)
watcher.start()
if sys.argv[4] == "film":
    film(sys.argv[1], dtype, subject.directory)
else:
    kept = ours.networks_of(subject, dtype) if sys.argv[1] == "ours" else stock.pipeline_of(subject, dtype)
ended.set()
watcher.join()
whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([peaks[0] - before[0], whole - before[1], peaks[0]]))
"""


def measure() -> dict[str, Any]:
    """Of loading and of a film, of both sides in both precisions."""
    directory = built()
    calls = {
        "ours, bf16": ("ours", "bfloat16"),
        "stock, bf16": ("stock", "bfloat16"),
        "ours, fp32": ("ours", "float32"),
        "stock, fp32": ("stock", "float32"),
    }
    return {
        "loading": {dtype: _loading(directory, dtype) for dtype in ("float32", "bfloat16")},
        "film": {name: _peaks(*call, directory, "film")[2] for name, call in calls.items()},
    }


def own() -> int:
    """Bytes that are this process's alone."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def film(side: str, dtype: torch.dtype, directory: Path) -> None:
    """One, ours by the library's call and stock's by its plain one, which decodes all frames at once."""
    if side == "ours":
        with tempfile.TemporaryDirectory() as data:  # what random weights take is no record of this machine
            os.environ |= {"FLICKBOOK_DATA_DIR": data, "FLICKBOOK_TEXT_CACHE_MIB": "0"}
            how: dict[str, Any] = {"model_dir": directory, "precision": name_of(dtype), "seed": 1}
            generate(PROMPT, model=MODEL, num_inference_steps=1, **FILM, **how)
        return
    from diffusers import TextToVideoSDPipeline

    pipeline = TextToVideoSDPipeline.from_pretrained(directory, torch_dtype=dtype, variant="fp16")
    pipeline(PROMPT, num_inference_steps=1, **FILM)


def _loading(directory: Path, dtype: str) -> dict[str, dict[str, float]]:
    """What loading adds to the peak of a process, over the bytes of the weights: its own, and with mapped files."""
    parts, found = {"ours": ("unet", "vae"), "stock": ("unet",)}, {}
    for name, loaded in parts.items():
        tensors = [each for part in loaded for each in replica.tensors_of(replica.MODELS[MODEL].parts[part]).values()]
        size = sum(math.prod(shape) for shape, _ in tensors) * getattr(torch, dtype).itemsize
        taken = _peaks(name, dtype, directory, "load")
        found[name] = {"own": taken[0] / size, "with_files": taken[1] / size}
    return found


def _peaks(side: str, dtype: str, directory: Path, until: str) -> list[int]:
    """Bytes that a fresh process takes until it has loaded, or made a film: its own and all of it, over what it began
    with; and its own with that."""
    found = last_line([sys.executable, "-W", "ignore", "-c", _LOAD, side, dtype, str(directory), until])
    return [int(each) for each in json.loads(found)]
