"""Counts what workers and services ask of the job store and the storage: `python -m bench.cluster_requests`.

Every command to the store passes a door that counts it (`tests.store.mongo_front`); requests to the storage are counted
where they are sent. One worker with `peers` is idle, then makes a long film, then short ones; one service has no
callers, then an event stream open on a running job. Counts of `--seconds` are divided by that time. The server is
nx-27017 and the storage a directory; a request to S3 counts the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from tests.store.mongo_front import RequestContext, front
from tests.store.mongo_server import running

from flickbook import settings
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.shared.artifacts import SharedArtifacts
from flickbook.jobs.workers.worker import Worker
from flickbook.server.app import create_app
from flickbook.server.run import config, listening
from flickbook.server.service import Service
from flickbook.spec import Request
from flickbook.store.base import Job
from flickbook.store.connect import connect

_READS = frozenset({"find", "aggregate", "distinct", "getMore"})
_WRITES = frozenset({"insert", "update", "delete", "findAndModify"})
Counts = Counter[str]


class Counted:
    """One process' worth of requests: commands at its door, requests of its artifact store."""

    def __init__(self, door: RequestContext, files: SharedArtifacts) -> None:
        self._door, self._storage = door, Counter[str]()
        self._lock = threading.Lock()
        request = files.remote._retried

        def counted(ask: Callable[[], Any], reads: bool = True) -> Any:
            with self._lock:
                self._storage["storage reads" if reads else "storage writes"] += 1
            return request(ask, reads)

        files.remote._retried = counted  # type: ignore[method-assign]

    def now(self) -> Counts:
        """All requests so far."""
        with self._door.counting, self._lock:
            names = Counter(next(iter(command)) for command in self._door.commands)
            found = Counter(self._storage)
        found["store reads"] = sum(count for name, count in names.items() if name in _READS)
        found["store writes"] = sum(count for name, count in names.items() if name in _WRITES)
        return found

    def by_collection(self) -> Mapping[str, int]:
        """The commands so far, by name and collection."""
        with self._door.counting:
            return Counter(f"{next(iter(each))} {each[next(iter(each))]}" for each in self._door.commands)

    def rate(self, seconds: float) -> dict[str, float]:
        """Requests a second from now on."""
        before, began = self.now(), time.monotonic()
        time.sleep(seconds)
        after, taken = self.now(), time.monotonic() - began
        return {name: round((after[name] - before[name]) / taken, 2) for name in sorted(after)}


def film(steps: int, frames: int, seed: int) -> Job:
    """A job of the built-in model."""
    words = "a red circle moving left on a blue background"
    return ordered(Request.of(prompt=words, num_frames=frames, num_inference_steps=steps, seed=seed))


@contextmanager
def served(url: str, files: SharedArtifacts) -> Iterator[str]:
    """A service without workers in a thread; yields its address."""
    ready, box = threading.Event(), dict[str, Any]()

    async def main() -> None:
        store = connect(url)
        await store.open()
        service = Service(store, files, settings.load(), port=0, workers=0)
        app = create_app(service)
        listener = listening(service)
        box["server"] = uvicorn.Server(config(service, app))
        box["url"] = f"http://127.0.0.1:{service.port}"
        ready.set()
        await box["server"].serve([listener])
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield box["url"]
    finally:
        box["server"].should_exit = True
        thread.join()


@contextmanager
def streaming(url: str, id: str) -> Iterator[None]:
    """An open event stream of a job."""
    over = threading.Event()

    def read() -> None:
        with httpx2.Client(timeout=None) as client, client.stream("GET", f"{url}/api/v1/jobs/{id}/events") as stream:
            for _ in stream.iter_lines():
                if over.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def measure(place: Path, seconds: float, films: int) -> dict[str, Any]:
    """All counts."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        (place / "mongo").mkdir()
        server = stack.enter_context(running(place / "mongo"))
        doors = [stack.enter_context(front(server.port)) for _ in range(2)]
        files = [SharedArtifacts(place / name, str(place / "storage")) for name in ("worker", "service")]
        worker, service = (Counted(door, each) for door, each in zip(doors, files, strict=True))
        backend = stack.enter_context(Backend(connect(doors[0].url("requests")), files[0]))
        beside = stack.enter_context(Backend.at(server.url("requests"), place / "here", str(place / "storage")))
        url = stack.enter_context(served(doors[1].url("requests"), files[1]))
        loop = Worker(backend, "worker", peers=True)
        thread = threading.Thread(target=loop.work, daemon=True)
        thread.start()
        time.sleep(3)
        found["idle worker, a second"] = worker.rate(seconds)
        found["service without callers, a second"] = service.rate(seconds)

        def submit(job: Job) -> str:
            return beside.ask(beside.queue.submit([job]))[0].id

        def state(id: str) -> str:
            return beside.ask(beside.queue.job(id)).state

        id = submit(film(100, 96, 1))
        while not beside.artifacts.progress(id).get("index"):
            time.sleep(0.2)
        found["working worker, a second"] = working = worker.rate(seconds)
        with streaming(url, id):
            time.sleep(2)
            found["event stream of a running job, a second"] = service.rate(seconds)
        if state(id) != "running":
            raise SystemExit("the film ended too soon: choose less with --seconds")
        beside.ask(beside.queue.cancel(id))
        while state(id) != "cancelled":
            time.sleep(0.1)
        ids = [submit(film(4, 4, seed)) for seed in range(films)]
        before, began, kinds = worker.now(), time.monotonic(), worker.by_collection()
        while any(state(id) != "completed" for id in ids):
            time.sleep(0.05)
        after, taken = worker.now(), time.monotonic() - began
        each = {name: (after[name] - before[name] - working[name] * taken) / films for name in sorted(after)}
        found["finished film, beyond the working worker"] = {name: round(count, 1) for name, count in each.items()}
        found["seconds of a film"] = round(taken / films, 2)
        now = worker.by_collection()
        found["commands of a film"] = {name: round((now[name] - kinds[name]) / films, 1) for name in sorted(now)}
        loop.leave()
        thread.join()
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for which each rate is counted")
    parser.add_argument("--films", type=int, default=10, help="short films")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(Path(place), given.seconds, given.films), indent=1))


if __name__ == "__main__":
    main()
