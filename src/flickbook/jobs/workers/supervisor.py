"""Worker processes, started and kept alive: one that dies is buried, and another takes its place."""

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

#: Seconds: between two looks, until a stopped worker is killed, the longest wait before another is started.
_LOOK: Final = 0.2
_PATIENCE: Final = 20.0
_LONGEST: Final = 60.0
#: A worker that lived so long was a good one: the next is started at once.
_GOOD: Final = 30.0

logger = logging.getLogger(__name__)


@dataclass
class _Place:
    """A place that one worker at a time has; `env` says which device is its own."""

    env: dict[str, str]
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    wait: float = 0.0
    deaths: int = field(default=0)


class Supervisor:
    """Keeps `workers` processes at work on a store, by its address; each has a device of its own if there are several.

    They die with this process, however it ends: their standard input is a pipe that only this process holds.
    """

    def __init__(
        self, store: str, jobs_dir: Path | None = None, workers: int = 1, arguments: Sequence[str] = ()
    ) -> None:
        self.store, self.jobs_dir, self._arguments = store, jobs_dir, tuple(arguments)
        self._places = [_Place(_device(number, workers)) for number in range(workers)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._count = 0

    @property
    def alive(self) -> int:
        """How many workers there are now."""
        return sum(place.process is not None and place.process.poll() is None for place in self._places)

    @property
    def processes(self) -> list[int]:
        """The process numbers of the workers that are alive."""
        found = [place.process for place in self._places if place.process is not None]
        return [process.pid for process in found if process.poll() is None]

    def start(self) -> None:
        """Start the workers, and watch them from a thread of its own."""
        for place in self._places:
            self._start(place)
        self._thread.start()

    def stop(self, patience: float = _PATIENCE) -> None:
        """Have every worker lay its job down and leave; kill those that do not within `patience` seconds."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        processes = [place.process for place in self._places if place.process is not None]
        for process in processes:
            _hang_up(process)
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
        command = [sys.executable, "-m", "flickbook.jobs.workers.worker", "--name", place.name, *self._arguments]
        # Others see what a process was called with, and an address may hold a password.
        told = {"FLICKBOOK_STORE": self.store} if self.store else {}
        if self.jobs_dir is not None:
            told["FLICKBOOK_JOBS_DIR"] = str(self.jobs_dir)
        place.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=settings.inherited(**place.env, **told))
        place.began = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            for place in self._places:
                try:
                    self._look(place)
                except Exception:  # a thread that ended would replace no worker any more
                    logger.exception("worker %s cannot be looked after", place.name)
                    place.wait = time.monotonic() + _LONGEST

    def _look(self, place: _Place) -> None:
        """Replace the worker of a place if it is dead, and it is time to."""
        code = None if place.process is None else place.process.poll()
        if code is None:
            return
        if place.wait == 0.0:
            self._bury(place, code)
        if time.monotonic() >= place.wait:
            self._start(place)
            place.wait = 0.0

    def _bury(self, place: _Place, code: int) -> None:
        """Free at once what a dead worker had claimed, and say when the next one comes."""
        reason = f"its worker ended with exit code {code}"
        if code < 0:
            named = {number.value: number.name for number in signal.Signals}
            reason = f"its worker was killed by {named.get(-code, f'signal {-code}')}"
            reason += ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        logger.error("worker %s: %s", place.name, reason)
        lived = time.monotonic() - place.began
        place.deaths = 0 if lived > _GOOD else place.deaths + 1
        place.wait = time.monotonic() + min(_LONGEST, 0.1 * 2 ** min(place.deaths, 10))
        try:
            with Backend.at(self.store, self.jobs_dir) as backend:
                for job in backend.ask(backend.queue.bury(place.name, reason)):
                    backend.artifacts.log(job.id, f"attempt {job.attempt}: {reason}")
        except FlickbookError as error:
            logger.error("%s", error)  # its lease ends by itself


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """End a worker's standard input: it leaves."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            process.terminate()


def _device(number: int, workers: int) -> dict[str, str]:
    """The environment of worker `number` of `workers`: its own GPU, where there are several of both."""
    count = gpus() if workers > 1 else 1
    return {"CUDA_VISIBLE_DEVICES": str(number % count)} if count > 1 else {}
