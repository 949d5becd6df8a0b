"""Starts worker processes and replaces those that die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flickbook import settings
from flickbook.engine.memory.machine import gpus
from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend

#: Seconds: between two checks, until a stopping worker is killed, and the longest wait before a restart.
_LOOK: Final = 0.2
_PATIENCE: Final = 20.0
_LONGEST: Final = 60.0
#: After a worker ran for this many seconds, its replacement starts at once.
_GOOD: Final = 30.0

_MODULE: Final = "flickbook.jobs.workers.worker"

logger = logging.getLogger(__name__)


@dataclass
class _Place:
    """A place for one worker process at a time; `env` selects its device."""

    env: dict[str, str]
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    wait: float = 0.0
    deaths: int = field(default=0)


class Supervisor:
    """Keeps `workers` processes running on a store, given by its URL; each has its own device if there are several.

    Workers exit with this process, however it ends: their standard input is a pipe that only this process holds.
    """

    def __init__(
        self,
        store: str,
        jobs_dir: Path | None = None,
        workers: int = 1,
        arguments: Sequence[str] = (),
        artifacts: str = "",
        module: str = _MODULE,
    ) -> None:
        """`artifacts` is the URL of shared storage for the files of jobs, by default that of the settings; `module` is
        what each process runs.
        """
        self._module = module
        self.store, self.jobs_dir, self.artifacts, self._arguments = store, jobs_dir, artifacts, tuple(arguments)
        degree = settings.load().ulysses_degree
        self._places = [_Place(_device(number, workers, degree)) for number in range(workers)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._count = 0

    @property
    def alive(self) -> int:
        """Number of running workers."""
        return sum(place.process is not None and place.process.poll() is None for place in self._places)

    @property
    def processes(self) -> list[int]:
        """Process ids of the running workers."""
        found = [place.process for place in self._places if place.process is not None]
        return [process.pid for process in found if process.poll() is None]

    def start(self) -> None:
        """Starts the workers and a thread that watches them."""
        for place in self._places:
            self._start(place)
        self._thread.start()

    def stop(self, patience: float = _PATIENCE) -> None:
        """Asks every worker to release its job and exit; kills those that do not within `patience` seconds."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        processes = [place.process for place in self._places if place.process is not None]
        for process in processes:
            _close_input(process)
        until = time.monotonic() + patience
        for process in processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, place: _Place) -> None:
        self._count += 1
        place.name = f"{socket.gethostname()}:{os.getpid()}:{self._count}"
        command = [sys.executable, "-m", self._module, "--name", place.name, *self._arguments]
        # Other users can read a command line, and the URL may contain a password.
        variables = {"FLICKBOOK_STORE": self.store} if self.store else {}
        if self.jobs_dir is not None:
            variables["FLICKBOOK_JOBS_DIR"] = str(self.jobs_dir)
        if self.artifacts:
            variables["FLICKBOOK_ARTIFACTS"] = self.artifacts
        place.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=settings.inherited(**place.env, **variables)
        )
        place.began = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            for place in self._places:
                try:
                    self._look(place)
                except Exception:  # if this thread ended, no worker would be replaced
                    logger.exception("worker %s cannot be supervised", place.name)
                    place.wait = time.monotonic() + _LONGEST

    def _look(self, place: _Place) -> None:
        """Replaces a dead worker when its waiting time is over."""
        code = None if place.process is None else place.process.poll()
        if code is None:
            return
        if place.wait == 0.0:
            self._record_death(place, code)
        if time.monotonic() >= place.wait:
            self._start(place)
            place.wait = 0.0

    def _record_death(self, place: _Place, code: int) -> None:
        """Releases the jobs of a dead worker and sets the time of its restart."""
        reason = f"its worker ended with exit code {code}"
        if code < 0:
            named = {number.value: number.name for number in signal.Signals}
            reason = f"its worker was killed by {named.get(-code, f'signal {-code}')}"
            reason += ", possibly because memory ran out" if code == -signal.SIGKILL else ""
        logger.error("worker %s: %s", place.name, reason)
        lived = time.monotonic() - place.began
        place.deaths = 0 if lived > _GOOD else place.deaths + 1
        place.wait = time.monotonic() + min(_LONGEST, 0.1 * 2 ** min(place.deaths, 10))
        try:
            with Backend.at(self.store, self.jobs_dir, self.artifacts) as backend:
                for job in backend.ask(backend.queue.release_jobs_of(place.name, reason)):
                    backend.artifacts.log(job.id, f"attempt {job.attempt}: {reason}")
        except FlickbookError as error:
            logger.error("%s", error)  # its lease will expire


def _close_input(process: subprocess.Popen[bytes]) -> None:
    """Closes a worker's standard input, which makes it exit."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            process.terminate()


def _device(number: int, workers: int, degree: int = 1) -> dict[str, str]:
    """Environment of worker `number` of `workers`: its own `degree` GPUs, if there are several of both."""
    count = gpus() if workers > 1 else 1
    if count < 2:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(str((number * degree + each) % count) for each in range(degree))}
