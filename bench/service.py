"""The queue and the service on loopback: `python -m bench.service [--jobs 10000] [--json]`.

A true server process without workers, on an SQLite file of so many queued jobs. Milliseconds: of a status poll, of a
read of one job, of a create (each its own commit, beside one bare commit of the same store), and of a claim. The memory
is that of the server after all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

from flickbook.jobs.create import ordered
from flickbook.spec import Request
from flickbook.store.base import Job, Note, new_id
from flickbook.store.sqlite.store import SqliteStore

GOALS = {"poll": "p50 at most 2", "read": "p50 at most 5, p99 at most 15", "claim": "p99 at most 40"}


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest, in milliseconds."""
    ordered_ = sorted(1000 * each for each in seconds)
    return {
        "p50": statistics.median(ordered_),
        "p99": ordered_[min(len(ordered_) - 1, int(0.99 * len(ordered_)))],
        "max": ordered_[-1],
    }


async def timed(work: Callable[[], Awaitable[Any]], count: int) -> dict[str, float]:
    """The spread of `count` calls, one after the other."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return spread(taken)


def queued(number: int) -> list[Job]:
    """So many jobs, of 20 owners."""
    job = ordered(Request.of(prompt="a red circle moving left", seed=7))
    return [job.model_copy(update={"id": new_id("job"), "owner": f"owner{each % 20}"}) for each in range(number)]


async def of_store(path: Path, number: int) -> dict[str, Any]:
    """Claims and bare commits."""
    store = SqliteStore(path)
    await store.open()
    jobs = queued(number)
    began = time.perf_counter()
    for first in range(0, number, 500):
        await store.add(jobs[first : first + 500])
    filled = time.perf_counter() - began
    found = {
        "store": store.title,
        "jobs": number,
        "add_500_at_once_per_s": number / filled,
        "commit": await timed(lambda: store.put(Note(kind="bench", id=new_id("note"))), 200),
        "claim": await timed(lambda: store.claim("bench", 600.0), 300),
    }
    await store.close()
    return found


def of_service(path: Path, home: Path) -> dict[str, Any]:
    """Requests to a server of its own, one after the other."""
    command = [
        sys.executable,
        "-m",
        "flickbook",
        "serve",
        "--port",
        "0",
        "--workers",
        "0",
        "--store",
        f"sqlite:///{path}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=home) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            base = line.split()[2]
            idle = psutil.Process(process.pid).memory_info().rss / 2**20
            with httpx2.Client(base_url=base) as client:
                made = client.post("/api/v1/jobs", json={"prompt": "a red circle moving left", "seed": 7}).json()
                id, body = made["id"], {"prompt": "a red circle moving left", "seed": 7}
                video = id.replace("job_", "video_")

                def call(method: str, url: str, **how: Any) -> dict[str, float]:
                    taken = []
                    for _ in range(200):
                        began = time.perf_counter()
                        client.request(method, url, **how).raise_for_status()
                        taken.append(time.perf_counter() - began)
                    return spread(taken)

                return {
                    "health": call("GET", "/healthz"),
                    "poll": call("GET", f"/v1/videos/{video}"),
                    "read": call("GET", f"/api/v1/jobs/{id}"),
                    "create": call("POST", "/api/v1/jobs", json=body),
                    "idle_mib": idle,
                    "after_mib": psutil.Process(process.pid).memory_info().rss / 2**20,
                }
        finally:
            process.terminate()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        found = asyncio.run(of_store(path, options.jobs)) | of_service(path, Path(folder))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['store']}, {found['jobs']} jobs, {found['add_500_at_once_per_s']:.0f} added a second, 500 at once")
    for name in ("commit", "claim", "health", "poll", "read", "create"):
        part = found[name]
        goal = f", goal {GOALS[name]} ms" if name in GOALS else ""
        print(f"{name}: p50 {part['p50']:.1f}, p99 {part['p99']:.1f}, most {part['max']:.1f} ms{goal}")
    beside = found["create"]["p50"] - found["commit"]["p50"]
    print(f"a create takes {beside:.1f} ms more than a commit, goal at most 5")
    print(f"the server holds {found['idle_mib']:.0f} MiB, after all this {found['after_mib']:.0f}, goal at most 250")


if __name__ == "__main__":
    main()
