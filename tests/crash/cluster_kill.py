"""Losses in a cluster: a worker, a machine, the head, the driver, and for some seconds the store or the storage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from tests.store import mongo_server

from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.spec import Request
from flickbook.store.base import Job

#: Films of a round, their steps, and the seconds for which a part does not respond.
_FILMS: Final = 3
_STEPS: Final = 40
_SILENT: Final = 4.0
_PATIENCE: Final = 300.0
_MEMORY: Final = 100 << 20
FAULTS: Final = ("worker", "machine", "head", "driver", "store", "storage", "upload")


@dataclass
class Outcome:
    """What was lost, the films, those that took a second attempt, and what was wrong."""

    losses: Counter[str] = field(default_factory=Counter)
    films: int = 0
    again: int = 0
    faults: list[str] = field(default_factory=list)


class Cluster:
    """A head, two machines, a driver, a store and storage, each as processes."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self._place, self._stack = place, stack
        (place / "mongo").mkdir(parents=True)
        self.store = stack.enter_context(mongo_server.running(place / "mongo"))
        self._storage = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=(place / "moto.log").open("wb"),
        )
        stack.callback(self._storage.kill)
        address = self._address()
        os.environ.update(
            {
                "HOME": str(place),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": "a-token-for-the-trials-of-a-cluster",
                "RAY_USAGE_STATS_ENABLED": "0",
                "OMP_NUM_THREADS": "1",
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
                "FLICKBOOK_DATA_DIR": str(place / "data"),
            }
        )
        import fsspec

        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("films")
        self.artifacts = "s3://films/artifacts"
        self.ray: Any = None
        self._driver: subprocess.Popen[bytes] | None = None
        stack.callback(self._end)
        self.start()

    def _address(self) -> str:
        """The address that the storage wrote when it began to listen."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            text = (self._place / "moto.log").read_text(encoding="utf-8", errors="replace")
            if "http://" in text:
                return "http://" + text.split("http://", 1)[1].split()[0]
            time.sleep(0.1)
        raise RuntimeError("the storage does not start")

    def start(self) -> None:
        """Starts a cluster and its driver."""
        from ray.cluster_utils import Cluster as RayCluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _MEMORY}
        self.ray = RayCluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            self.add()
        self.drive()

    def add(self) -> None:
        """Adds a machine with one GPU in name."""
        self.ray.add_node(num_cpus=1, num_gpus=1, object_store_memory=_MEMORY)

    def drive(self) -> None:
        """Starts the driver; a server's supervisor does so too."""
        words = ["--address", self.ray.address, "--most", "2", "--lease", "3", "--beat", "0.5"]
        with (self._place / "driver.log").open("ab") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "flickbook.jobs.cluster.driver", *words],
                env={**os.environ, "FLICKBOOK_STORE": self.store.url(), "FLICKBOOK_ARTIFACTS": self.artifacts},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def lose(self, fault: str, worker: str) -> None:
        """Breaks one part while `worker` makes a film, and replaces what would be replaced."""
        number = int(worker.split(":")[1])
        if fault == "worker":
            os.kill(number, signal.SIGKILL)
        elif fault == "machine":
            self.ray.remove_node(self._machine_of(number), allow_graceful=False)
            self.add()
        elif fault == "head":
            self._end()
            self.start()
        elif fault == "driver":
            assert self._driver is not None
            self._driver.kill()
            self._driver.wait()
            self.drive()
        elif fault == "store":
            with self._stopped(self.store.process):
                time.sleep(_SILENT)
        else:  # "storage" at any time, "upload" while a worker writes its film
            with self._stopped(self._storage):
                time.sleep(_SILENT)

    @contextmanager
    def _stopped(self, process: Any) -> Iterator[None]:
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _machine_of(self, number: int) -> Any:
        parents = {process.pid for process in psutil.Process(number).parents()}
        for node in self.ray.worker_nodes:
            if parents & {each.process.pid for each in node.all_processes["raylet"]}:
                return node
        raise RuntimeError(f"process {number} runs on no machine")

    def _end(self) -> None:
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()
        if self.ray is not None:
            self.ray.shutdown()
        self._driver = self.ray = None


def run(place: Path, losses: int, seed: int, faults: tuple[str, ...] = FAULTS) -> Outcome:
    """Break parts of a cluster `losses` times while it makes films, and compare every film with its twin."""
    found, chance = Outcome(), random.Random(seed)
    with ExitStack() as stack:
        cluster = Cluster(place, stack)
        with Backend.at(cluster.store.url(), place / "here", cluster.artifacts) as backend:
            whole = _frames(_made(backend, 1)[0])
            for number in range(losses):
                fault = faults[number % len(faults)]
                jobs = backend.ask(backend.queue.submit([_job() for _ in range(_FILMS)]))
                # An upload is lost at the end of a film, anything else at any time.
                share = 0.97 if fault == "upload" else chance.uniform(0.05, 0.9)
                try:
                    worker = _reached(backend, jobs, share)
                    cluster.lose(fault, worker)
                    found.losses[fault] += 1
                    done = _ended(backend, jobs)
                except (TimeoutError, RuntimeError, FlickbookError, psutil.Error) as error:
                    found.faults.append(f"loss {number} ({fault}): {type(error).__name__}: {error}")
                    break
                found.films += len(done)
                found.again += sum(job.attempt > 1 for job in done)
                found.faults += [
                    f"loss {number} ({fault}): {job.id} is {job.state}: {job.error}"
                    for job in done
                    if job.state != "completed"
                ]
                found.faults += [
                    f"loss {number} ({fault}): the frames of {job.id} differ"
                    for job in done
                    if job.state == "completed" and _frames(job) != whole
                ]
                for job in done:
                    found.faults += _stored(backend, job)
    return found


def _job() -> Job:
    words = "a red circle moving left on a blue background"
    return ordered(Request.of(prompt=words, num_frames=4, num_inference_steps=_STEPS, seed=1))


def _made(backend: Backend, count: int) -> list[Job]:
    return _ended(backend, backend.ask(backend.queue.submit([_job() for _ in range(count)])))


def _now(backend: Backend, jobs: list[Job]) -> list[Job]:
    return [backend.ask(backend.queue.job(job.id)) for job in jobs]


def _reached(backend: Backend, jobs: list[Job], share: float) -> str:
    """The worker of the first job that got as far as `share`, or that is past it already."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        for job in _now(backend, jobs):
            done = float(backend.artifacts.progress(job.id).get("fraction") or 0.0)
            if job.state == "running" and max(done, job.reached) >= share:
                return job.worker
            if job.state == "completed" and share > 0.9:  # it was faster than this loop
                return next((each.worker for each in _now(backend, jobs) if each.worker), job.worker) or "x:0:0"
        time.sleep(0.02)
    raise TimeoutError(f"no film got to {share:.0%} within {_PATIENCE:g} s")


def _ended(backend: Backend, jobs: list[Job]) -> list[Job]:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(FlickbookError):  # the store may be silent
            backend.ask(backend.queue.recover())
            found = _now(backend, jobs)
            if all(job.state in ("completed", "failed", "cancelled") for job in found):
                return found
        time.sleep(0.1)
    raise TimeoutError(f"not all films ended within {_PATIENCE:g} s")


def _frames(job: Job) -> str:
    assert job.result is not None and job.result.sidecar.recipe is not None
    return job.result.sidecar.recipe.frames_sha256


def _stored(backend: Backend, job: Job) -> list[str]:
    """What is wrong with the stored files of a completed job."""
    if job.state != "completed" or job.result is None:
        return []
    films = [
        name
        for name in backend.artifacts.remote.names(job.id[-2:] + f"/{job.id}")  # type: ignore[attr-defined]
        if name.rpartition("/")[2].startswith("film-") and not name.endswith(".json")
    ]
    found = [] if films else [f"{job.id} has no film in the storage"]
    manifest = backend.artifacts.remote.manifest(films[-1]) if films else None  # type: ignore[attr-defined]
    if manifest is not None and manifest.sha256 != job.result.sha256:
        found.append(f"the stored film of {job.id} is not the one that was completed")
    return found
