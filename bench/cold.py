"""Fresh processes in turn: from the start of Python to a film on disk, and the peak memory of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.warm import FRAMES, GUIDANCE, PROMPT, SEED, SIZE, STEPS

_STOCK = f"""
import sys, torch
from diffusers import TextToVideoSDPipeline
from diffusers.utils import logging
logging.set_verbosity_error()
pipeline = TextToVideoSDPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
frames = pipeline({PROMPT!r}, num_frames={FRAMES}, height={SIZE}, width={SIZE}, num_inference_steps={STEPS},
                  guidance_scale={GUIDANCE}, generator=torch.Generator().manual_seed({SEED})).frames[0]
from flickbook.media.write import write_mp4
write_mp4(sys.argv[2], (frames * 255).round().astype("uint8"), 8, None)
"""


#: The peak that the system keeps for a process includes what its parent held when it started it, and this process
#: holds two models; so a small one stands between.
_BETWEEN = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a command. Raises CalledProcessError if it fails."""
    between = [sys.executable, "-I", "-S", "-c", _BETWEEN, *command]
    seconds, peak = subprocess.run(between, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(peak)


def seconds(directory: Path, folder: Path, pairs: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(seconds, peak MiB) of `pairs` runs of our command and of the stock script, in turn; the first pair warms."""
    ours, theirs = [], []
    for turn in range(pairs + 1):
        film = folder / f"ours-{turn}.mp4"
        options = ["--seed", str(SEED), "--num-inference-steps", str(STEPS), "--guidance-scale", str(GUIDANCE)]
        mine = timed([sys.executable, "-m", "flickbook", "generate", PROMPT, *options, "--output", str(film)])
        stock = timed([sys.executable, "-W", "ignore", "-c", _STOCK, str(directory), str(folder / f"stock-{turn}.mp4")])
        if turn:
            ours.append(mine)
            theirs.append(stock)
    return ours, theirs
