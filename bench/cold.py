"""Fresh processes in turn: from the start of Python to a film on disk, and the peak memory of each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.process import timed
from bench.protocol import interleave, measured
from bench.warm import FRAMES, GUIDANCE, PROMPT, SEED, SIZE, STEPS, comparable

_STOCK = f"""
import sys, torch
from diffusers import TextToVideoSDPipeline
from diffusers.utils import logging
logging.set_verbosity_error()
pipeline = TextToVideoSDPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
frames = pipeline({PROMPT!r}, num_frames={FRAMES}, height={SIZE}, width={SIZE}, num_inference_steps={STEPS},
                  guidance_scale={GUIDANCE}, generator=torch.Generator().manual_seed({SEED})).frames[0]
from flickbook.media.write import write
write(sys.argv[2], (frames * 255).round().astype("uint8"), 8, None)
"""


def commands(directory: Path, film: Path) -> dict[str, list[str]]:
    """From a sentence to a file, ours and the shortest script for stock, and our help."""
    options = ["--seed", str(SEED), "--num-inference-steps", str(STEPS), "--guidance-scale", str(GUIDANCE)]
    ours = [str(Path(sys.executable).with_name("flickbook"))]
    return {
        "ours": [*ours, "generate", PROMPT, *options, "--output", str(film)],
        "stock": [sys.executable, "-W", "ignore", "-c", _STOCK, str(directory), str(film.with_suffix(".stock.mp4"))],
        "help": [*ours, "--help"],
    }


def measure(pairs: int) -> dict[str, Any]:
    """Seconds in turn, each in a fresh process, and what each held at most. Raises CalledProcessError."""
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory, number = comparable(Path(folder)), [0]

        def run(name: str) -> None:
            number[0] += 1  # a name of its own for each film, since none is written over another
            peak = timed(commands(directory, Path(folder) / f"{number[0]}.mp4")[name])[1]
            peaks.setdefault(name, []).append(round(peak, 1))

        calls = {name: lambda name=name: run(name) for name in commands(directory, Path(folder))}
        turns = measured(lambda: interleave(calls, pairs, "ours"))
    return {"turns": turns.to_dict(), "void": turns.void, "peak_mib": {name: max(each) for name, each in peaks.items()}}
