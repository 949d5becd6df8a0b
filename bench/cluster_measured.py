"""A real cluster beside its simulation: `python -m bench.cluster_sim --measured`.

Ray's machines are processes on this computer with one CPU each, the store is nx-27017, the storage a directory. On 1
and on 2 machines, films of the built-in model are made

    - all at once, which gives the films a second, and the seconds that a film takes a worker;
    - with random arrivals, which are simulated twice: with these seconds ("predicted"), and with the seconds that each
      of the films took ("replayed"), which leaves out that other work on the computer makes films slower by turns.
"""

from __future__ import annotations

import heapq
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.store import mongo_server

from bench.cluster_sim import Job as Film
from bench.cluster_sim import Model, Simulation
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.workers.roster import Roster
from flickbook.spec import Request
from flickbook.store.base import Job

#: Frames and steps of a film, and the share of the workers' time that random arrivals ask for.
_FRAMES: Final = 8
_STEPS: Final = 20
_LOAD: Final = 0.75
_PATIENCE: Final = 300.0
_MEMORY: Final = 100 << 20
#: Seconds between two looks of an idle worker at the queue.
_LOOK: Final = 0.5


class Replay(Simulation):
    """A simulation of given arrivals, in seconds, of films that take `films` seconds, with all models loaded."""

    def __init__(self, gpus: int, arrivals: Sequence[float], films: Sequence[float]) -> None:
        self._films, model = films, Model("builtin", 1.0, 0.0, 1.0)
        super().__init__(gpus, 1.0, hours=1e6, mix=(model,), failures=1e9)
        self._arrivals, self._model, self.last = arrivals, model, 0.0
        for number, worker in enumerate(self._workers):
            worker.model = model.name
            self._warm[model.name][number] = None

    def run(self) -> Any:
        """Runs until the last film is finished."""
        for number, at in enumerate(self._arrivals):
            self._later(at, "arrival", number)
        while self._events:
            now, number, what, worker = heapq.heappop(self._events)
            getattr(self, f"_{what}")(now, number, worker)
        self.outcome.seconds = len(self._workers) * (self.last - self._arrivals[0])
        return self.outcome

    def _arrival(self, now: float, number: int, worker: int) -> None:
        # An idle worker sees a job after half the time between two looks, on average.
        self._later(now + (_LOOK / 2 if self._idle else 0.0), "seen", worker)

    def _seen(self, now: float, number: int, worker: int) -> None:
        self._queue.append(Film(self._arrivals[worker], self._model, self._films[worker]))
        self._assign(now)

    def _finished(self, now: float, number: int, worker: int) -> None:
        self.last = now
        super()._finished(now, number, worker)


@contextmanager
def cluster(place: Path, machines: int) -> Iterator[Backend]:
    """A cluster with a worker on each machine; yields its queue once all workers run."""
    from ray.cluster_utils import Cluster

    (place / "mongo").mkdir(parents=True)
    ray = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": _MEMORY},
    )
    try:
        for _ in range(machines):
            ray.add_node(num_cpus=1, num_gpus=1, object_store_memory=_MEMORY)
        with mongo_server.running(place / "mongo") as server:
            url, storage = server.url(), str(place / "storage")
            words = ["--address", ray.address, "--most", str(machines)]
            driver = subprocess.Popen(
                [sys.executable, "-m", "flickbook.jobs.cluster.driver", *words],
                env={**os.environ, "FLICKBOOK_STORE": url, "FLICKBOOK_ARTIFACTS": storage},
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                with Backend.at(url, place / "here", storage) as backend:
                    yield backend
            finally:
                assert driver.stdin is not None
                driver.stdin.close()
                driver.wait(60)
    finally:
        ray.shutdown()


def _film(seed: int) -> Job:
    words = "a red circle moving left on a blue background"
    return ordered(Request.of(prompt=words, num_frames=_FRAMES, num_inference_steps=_STEPS, seed=seed))


def _ended(backend: Backend, jobs: Sequence[Job]) -> list[Job]:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = [backend.ask(backend.queue.job(job.id)) for job in jobs]
        if all(job.state == "completed" for job in found):
            return found
        time.sleep(0.5)
    raise SystemExit("the films took too long")


def _warm(backend: Backend, machines: int) -> None:
    """Waits until every worker runs and has loaded the model."""
    roster, end = Roster(backend.store), time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        _ended(backend, backend.ask(backend.queue.submit([_film(seed) for seed in range(2 * machines)])))
        loaded = [body for body in backend.ask(roster.alive()).values() if body["models"]]
        if len(loaded) == machines:
            return
    raise SystemExit("the workers did not start")


def once(machines: int, films: int, seed: int) -> dict[str, float]:
    """One measurement on so many machines, and its simulation."""
    with tempfile.TemporaryDirectory() as place, cluster(Path(place), machines) as backend:
        _warm(backend, machines)
        done = _ended(backend, backend.ask(backend.queue.submit([_film(each) for each in range(films)])))
        taken = max(job.finished_at for job in done) - min(job.started_at for job in done)
        film = machines * taken / films
        chance, at, arrivals = random.Random(seed), 0.0, list[float]()
        for _ in range(films):
            arrivals.append(at)
            at += chance.expovariate(machines * _LOAD / film)
        jobs, began = [], time.monotonic()
        for number, at in enumerate(arrivals):
            time.sleep(max(0.0, at - (time.monotonic() - began)))
            jobs += backend.ask(backend.queue.submit([_film(number)]))
        real = _ended(backend, jobs)
    span = max(job.finished_at for job in real) - min(job.created_at for job in real)
    waits = [job.started_at - job.created_at for job in real]
    begun, seconds = real[0].created_at, [job.finished_at - job.started_at for job in real]
    arrivals = [job.created_at - begun for job in real]
    found = {
        "machines": machines,
        "films": films,
        "film s": film,
        "films a second": films / taken,
        "use": sum(seconds) / machines / span,
        "wait s": sum(waits) / films,
        "makespan s": span,
    }
    for name, each in (("predicted", [film] * films), ("replayed", seconds)):
        replay = Replay(machines, arrivals, each)
        simulated = replay.run()
        found |= {f"use, {name}": simulated.films / simulated.seconds, f"makespan s, {name}": replay.last}
        found[f"wait s, {name}"] = sum(simulated.waits) / films
    return found


def measure(films: int, repeats: int) -> Iterator[dict[str, float]]:
    """The measurements on 1 and 2 machines in turn, so often, with so many films for each machine."""
    with tempfile.TemporaryDirectory(prefix="ray-") as home:
        variables = {
            "HOME": home,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a-token-for-this-measurement",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "FLICKBOOK_THREADS": "1",
            "FLICKBOOK_DATA_DIR": str(Path(home) / "data"),
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }
        os.environ.update(variables)
        for number in range(repeats):
            yield from (once(machines, films * machines, number) for machines in (1, 2))
