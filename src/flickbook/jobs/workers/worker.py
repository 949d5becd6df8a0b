"""One process that works on the queue: it claims a job, runs it, and settles it, until it is told to leave.

It dies alone: what it has claimed is free again when its lease is over, or at once where a supervisor sees it go. It
leaves when its standard input ends, so that it never outlives whoever started it, and on SIGTERM; both lay its job down
where it is. `python -m flickbook.jobs.workers.worker --help` says how it is started.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil

from flickbook import settings
from flickbook.errors import FlickbookError, StoreError
from flickbook.files import replace_whole
from flickbook.hub.find import to_pull
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.jobs.workers.batching import gather
from flickbook.jobs.workers.runner import Runner
from flickbook.store.base import Job

#: Seconds between two looks into an empty queue, and the longest wait for a store that does not answer.
IDLE = 0.1
_PATIENCE = 30.0
#: Queued jobs that are looked at for one whose model is here.
_AMONG = 200

logger = logging.getLogger(__name__)


def name_of(number: int = 0) -> str:
    """What a worker of this process is called: machine, process, number."""
    return f"{socket.gethostname()}:{os.getpid()}:{number}"


def gone(name: str) -> bool:
    """Whether the worker of this name was a process of this machine that is there no more."""
    host, process, _ = [*name.rsplit(":", 2), "", ""][:3]
    return host == socket.gethostname() and process.isdecimal() and not psutil.pid_exists(int(process))


class Worker:
    """Works on the queue in this thread until `leave` is called; `lease`, `beat` and `look` are seconds.

    `batch` is how many jobs of one shape run together at most, as the settings say by default.
    """

    def __init__(
        self,
        backend: Backend,
        name: str = "",
        *,
        lease: float = LEASE,
        beat: float = BEAT,
        look: float = LOOK,
        batch: int | None = None,
    ) -> None:
        self.name = name or name_of()
        self._backend, self._lease, self._beat, self._leaving = backend, lease, beat, threading.Event()
        self._runner = Runner(backend, lease=lease, beat=beat, look=look, aside=True)
        self._batch, self._tended = batch, 0.0
        self._auto = settings.load().pull == "auto"

    def leave(self) -> None:
        """Lay down what runs at its next step, and return from `work`."""
        self._leaving.set()
        self._runner.leave()

    def work(self, jobs: int | None = None) -> int:
        """Run jobs as they come, at most so many; how many it ran."""
        done, wait = 0, IDLE
        while not self._leaving.is_set() and (jobs is None or done < jobs):
            try:
                self._tend()
                job = self._claim()
                wait = IDLE
            except StoreError as error:
                logger.error("%s", error)
                job, wait = None, min(2 * wait, _PATIENCE)
            if job is None:
                self._leaving.wait(wait)
                continue
            crew = gather(self._backend, self.name, self._lease, job, self._batch, jobs and jobs - done)
            try:
                self._runner.run(crew.jobs, beside=crew.slots, batch=crew.batch)
            except (FlickbookError, OSError) as error:
                # What could not be settled is free again when its lease is over.
                logger.error("%s: %s", job.id, error)
            done += len(crew.jobs)
        self._runner.rest()
        return done

    def _claim(self) -> Job | None:
        """The next job. Where the service downloads models, the jobs behind one that waits for its model come first."""
        store = self._backend.store
        if not self._auto:
            return self._backend.ask(store.claim(self.name, self._lease))
        taken = self._backend.ask(store.claim_more(self.name, self._lease, _ready, 1, _AMONG))
        return taken[0] if taken else None

    def _tend(self) -> None:
        """Now and then, what others left behind."""
        if time.monotonic() - self._tended > self._beat:
            self._backend.ask(self._backend.queue.tend())
            self._tended = time.monotonic()


def _ready(job: Job) -> bool:
    """Whether a job need not wait for the download of its model. One that can have none fails when it is run."""
    return bool(job.model_dir) or not to_pull(job.plan.model)


def main(arguments: list[str] | None = None) -> int:
    """Work until standard input ends or SIGTERM comes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flickbook.jobs.workers.worker", description="Work on the queue.")
    parser.add_argument("--store", default="", help="where jobs are kept")
    parser.add_argument("--jobs-dir", type=Path, help="where their files are")
    parser.add_argument("--name", default="", help="what this worker is called")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds a claim holds")
    parser.add_argument("--beat", type=float, default=BEAT, help="seconds between two heartbeats")
    parser.add_argument("--batch", type=int, help="jobs of one shape that run as one batch at most")
    parser.add_argument("--ready", type=Path, help="a file to write once it works")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=settings.load().log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    faulthandler.enable()
    try:
        with Backend.at(given.store, given.jobs_dir) as backend:
            worker = Worker(backend, given.name, lease=given.lease, beat=given.beat, batch=given.batch)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: worker.leave())
            threading.Thread(target=_until_the_end, args=(worker,), name="parent", daemon=True).start()
            if given.ready is not None:
                replace_whole(given.ready, lambda file: file.write_text(worker.name, encoding="utf-8"))
            worker.work()
    except FlickbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _until_the_end(worker: Worker) -> None:
    """Wait until whoever started this process is gone: the pipe that is its standard input has then an end."""
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        pass
    worker.leave()


if __name__ == "__main__":
    sys.exit(main())
