"""Queued jobs one after the other against the same as batches: `python -m bench.queue [--jobs 8] [--batch 8] [--json]`.

One warm worker in this process on a queue of its own: films of one shape with a seed each, made with batch 1 and with
batch N in turn, from the first claim to the last settled job, files written. The ratio is pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.protocol import Ratio
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.workers.batching import room
from flickbook.jobs.workers.worker import Worker
from flickbook.spec import Request
from flickbook.store.base import Job

PROMPT = "a red circle moving left on a blue background"


def queued(count: int, model: str, steps: int | None) -> list[Job]:
    """So many jobs of one shape, a seed each."""
    how = {"prompt": PROMPT, "model": model, "num_inference_steps": steps}
    return [ordered(Request.of(**how, seed=seed)) for seed in range(count)]


def seconds(backend: Backend, jobs: list[Job], batch: int) -> float:
    """What a worker takes for all of these."""
    kept = backend.ask(backend.queue.submit(jobs))
    began = time.perf_counter()
    Worker(backend, "bench", batch=batch).work(len(kept))
    taken = time.perf_counter() - began
    found = [backend.ask(backend.queue.job(job.id)) for job in kept]
    wrong = [job for job in found if job.state != "completed"]
    if wrong:
        raise SystemExit(f"{wrong[0].id} is {wrong[0].state}: {wrong[0].error}")
    return taken


def measure(count: int, batch: int | None, pairs: int, model: str, steps: int | None) -> dict[str, Any]:
    """The figures."""
    with (
        tempfile.TemporaryDirectory() as place,
        Backend.at(f"sqlite:///{place}/jobs.db", Path(place) / "jobs") as backend,
    ):
        jobs = queued(count, model, steps)
        size = batch or max(2, room(jobs[0]))
        for warm in (1, size):
            seconds(backend, queued(size, model, steps), warm)
        serial, batched = [], []
        for _ in range(pairs):
            serial.append(seconds(backend, queued(count, model, steps), 1))
            batched.append(seconds(backend, queued(count, model, steps), size))
    plan = jobs[0].plan
    shape = f"{plan.width}x{plan.height}, {plan.num_frames} frames, {plan.num_inference_steps} steps"
    figures = {"serial_s": statistics.median(serial), "batched_s": statistics.median(batched)}
    ratio = asdict(Ratio.of(serial, batched))
    return {"model": model, "shape": shape, "jobs": count, "batch": size, "pairs": pairs, **figures, "ratio": ratio}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description="Jobs one by one and as batches.")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--batch", type=int, help="films at once; what pays here by default, 2 at least")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.jobs, given.batch, given.pairs, given.model, given.steps)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['jobs']} jobs of {found['model']}, {found['shape']}; batches of {found['batch']}")
    print(f"one by one {found['serial_s']:.2f} s, as batches {found['batched_s']:.2f} s: {Ratio(**found['ratio'])}")


if __name__ == "__main__":
    main()
