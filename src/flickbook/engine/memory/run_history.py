"""The history of runs on this machine, one JSON line each, from which time and memory of later films are estimated.

Recording never fails a run: write errors are ignored, and unreadable lines are skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from flickbook import settings
from flickbook.files import replace_whole
from flickbook.spec import Plan, Recipe, Run

#: The number of newest records that are kept; a line is about half a kilobyte.
LIMIT: Final = 2000
#: The phases of a model's run; polishing says nothing about the next film.
_PHASES: Final = ("load", "encode", "denoise", "decode")


def path() -> Path:
    """The file of the records: `runs.jsonl` in the data directory."""
    return settings.load().data_dir / "runs.jsonl"


def record(recipe: Recipe, run: Run, films: int = 1) -> dict[str, Any]:
    """The record of a run that made `films` films of one shape at once.

    `seconds` is by phase; a "load" in it means that the run was its engine's first. `peak_memory_bytes` is the
    process's, so it includes the device's only on a CPU. `time` is the end of the run, ISO 8601 in UTC.
    """
    plan, placement = recipe.plan, recipe.placement
    assert isinstance(plan, Plan), "a treatment runs no model"
    memory = {phase: size for phase, size in run.peak_memory.items() if phase in _PHASES}
    return {
        "model": plan.model,
        "revision": plan.revision,
        "device": placement.device,
        "device_name": recipe.device_name,
        "dtype": placement.dtype,
        "quantize": placement.quantize,
        "offload": placement.offload,
        "decode_frames": placement.decode_frames,
        "slicing": placement.slicing,
        "tiling": placement.tiling,
        "rungs": list(placement.rungs),
        "width": plan.width,
        "height": plan.height,
        "frames": plan.num_frames,
        "steps": plan.num_inference_steps,
        "guided": plan.guided(),
        "speed": plan.speed,
        "latent_upsample": plan.latent_upsample,
        "films": films,
        "seconds": {phase: round(seconds, 3) for phase, seconds in run.seconds.items() if phase in _PHASES},
        "peak_memory_bytes": max(memory.values(), default=run.peak_memory_bytes),
        "time": run.finished_at,
    }


def append(entry: dict[str, Any]) -> None:
    """Add a record, and drop the oldest above `LIMIT`. Ignores errors of a full or locked disk."""
    try:
        place = path()
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "a+b") as file:
            # One write, so that lines of two processes do not mix; a leading line end closes a truncated line.
            file.write(_gap(file) + json.dumps(entry, sort_keys=True).encode("ascii") + b"\n")
        lines = place.read_bytes().splitlines(keepends=True)
        if len(lines) > LIMIT:
            # A line that another process adds meanwhile may be lost, which is acceptable for a statistic.
            replace_whole(place, lambda draft: draft.write_bytes(b"".join(lines[-LIMIT:])))
    except OSError:
        return


def _gap(file: Any) -> bytes:
    """A line end, if the last line has none."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def read() -> list[dict[str, Any]]:
    """All records, oldest first; empty if there is no file. Lines that are not JSON objects are skipped."""
    try:
        lines = path().read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines[-LIMIT:]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
