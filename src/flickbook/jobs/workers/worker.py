"""A worker process: claims jobs, runs them and settles them until it is stopped.

If it dies, its jobs are released when their leases expire, or at once if a supervisor notices. It exits on SIGTERM
and when its standard input ends, so it never outlives the process that started it; both release its job. For its
options see `python -m flickbook.jobs.workers.worker --help`.
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
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import psutil

from flickbook import settings
from flickbook.errors import FlickbookError, StoreError
from flickbook.files import replace_whole
from flickbook.hub.find import to_pull
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT, LEASE, LOOK
from flickbook.jobs.workers.affinity import Affinity
from flickbook.jobs.workers.batching import gather
from flickbook.jobs.workers.models import supply
from flickbook.jobs.workers.runner import Runner
from flickbook.store.base import Job

#: Seconds: between two checks of an empty queue, the same and the time between two checks for requests when there are
#: other workers, which share the store, and the longest wait for a store that does not answer.
IDLE = 0.1
_SHARED = 0.5
_PATIENCE = 30.0
#: Queued jobs that are examined for one whose model is installed.
_AMONG = 200

logger = logging.getLogger(__name__)


def name_of(number: int = 0) -> str:
    """The name of a worker in this process: host, process id, number."""
    return f"{socket.gethostname()}:{os.getpid()}:{number}"


def is_dead(name: str) -> bool:
    """Whether a worker's name is that of a dead process on this machine."""
    host, process, _ = [*name.rsplit(":", 2), "", ""][:3]
    return host == socket.gethostname() and process.isdecimal() and not psutil.pid_exists(int(process))


class Worker:
    """Works on the queue in this thread until `leave` is called; `lease`, `beat` and `look` are seconds.

    `batch` is the maximum batch size, by default from the settings. With `peers`, jobs are left to another worker that
    has their model loaded, or that has the memory they need. With `fetches` it downloads missing models itself if the
    setting `pull` is auto; otherwise the service on its machine does.
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
        peers: bool = False,
        fetches: bool = False,
    ) -> None:
        self.name = name or name_of()
        self._backend, self._lease, self._beat, self._leaving = backend, lease, beat, threading.Event()
        self._idle = _SHARED if peers else IDLE
        auto = settings.load().pull == "auto"
        look, prepare = max(look, _SHARED) if peers else look, partial(supply, backend, auto and fetches)
        self._runner = Runner(backend, lease=lease, beat=beat, look=look, aside=True, prepare=prepare)
        self._batch, self._recovered = batch, 0.0
        self._ended: float | None = time.monotonic()
        self._affinity = Affinity(backend, self.name, beat, auto and fetches) if peers else None
        #: Whether jobs are skipped while the service downloads their model.
        self._supplied = auto and not fetches

    @property
    def idle(self) -> float:
        """Seconds since the last job ended; 0 while one runs."""
        ended = self._ended
        return 0.0 if ended is None else time.monotonic() - ended

    def leave(self) -> None:
        """Releases the running jobs at their next step and makes `work` return."""
        self._leaving.set()
        self._runner.leave()

    def work(self, jobs: int | None = None) -> int:
        """Runs up to `jobs` jobs, without limit by default; returns how many were run."""
        with self._affinity or nullcontext():
            return self._work(jobs)

    def _work(self, jobs: int | None) -> int:
        done, wait = 0, self._idle
        while not self._leaving.is_set() and (jobs is None or done < jobs):
            try:
                self._recover()
                job = self._claim()
                wait = self._idle
            except StoreError as error:
                logger.error("%s", error)
                job, wait = None, min(2 * wait, _PATIENCE)
            if job is None:
                self._leaving.wait(wait)
                continue
            self._ended = None
            group = gather(self._backend, self.name, self._lease, job, self._batch, jobs and jobs - done)
            try:
                with nullcontext() if self._affinity is None else self._affinity.running(job) as on_step:
                    self._runner.run(group.jobs, beside=group.slots, batch=group.batch, on_step=on_step)
            except (FlickbookError, OSError) as error:
                # Jobs that could not be settled are released when their leases expire.
                logger.error("%s: %s", job.id, error)
            done += len(group.jobs)
            self._ended = time.monotonic()
        self._runner.wait()
        return done

    def _claim(self) -> Job | None:
        """Claims the next job that should run here. If the service on this machine downloads models, jobs whose model
        is still missing are skipped.
        """
        store = self._backend.store
        if not self._supplied and self._affinity is None:
            return self._backend.ask(store.claim(self.name, self._lease))
        among = max(_AMONG if self._supplied else 0, 0 if self._affinity is None else self._affinity.begin())
        claimed = self._backend.ask(store.claim_more(self.name, self._lease, self._fits, 1, among))
        return claimed[0] if claimed else None

    def _fits(self, job: Job) -> bool:
        return (not self._supplied or _ready(job)) and (self._affinity is None or self._affinity.takes(job))

    def _recover(self) -> None:
        """Recovers jobs of dead workers, at most once per heartbeat."""
        if time.monotonic() - self._recovered > self._beat:
            self._backend.ask(self._backend.queue.recover())
            self._recovered = time.monotonic()


def _ready(job: Job) -> bool:
    """Whether a job can run without waiting for a model download. A job whose model cannot be downloaded fails when
    run.
    """
    return bool(job.model_dir) or not any(to_pull(name) for name in job.plan.models())


def main(arguments: list[str] | None = None) -> int:
    """Runs a worker until standard input ends or SIGTERM arrives; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flickbook.jobs.workers.worker", description="Work on the queue.")
    parser.add_argument("--store", default="", help="where jobs are kept")
    parser.add_argument("--jobs-dir", type=Path, help="where their files are")
    parser.add_argument("--name", default="", help="what this worker is called")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds a claim holds")
    parser.add_argument("--beat", type=float, default=BEAT, help="seconds between two heartbeats")
    parser.add_argument("--batch", type=int, help="jobs of one shape that run as one batch at most")
    parser.add_argument("--peers", action="store_true", help="leave jobs to workers that have their model loaded")
    parser.add_argument("--fetch", action="store_true", help="download missing models if the setting pull is auto")
    parser.add_argument("--ready", type=Path, help="a file to write once it works")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=settings.load().log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    faulthandler.enable()
    try:
        with Backend.at(options.store, options.jobs_dir) as backend:
            how = {"lease": options.lease, "beat": options.beat, "batch": options.batch, "peers": options.peers}
            worker = Worker(backend, options.name, fetches=options.fetch, **how)
            leave_at_end(worker.leave)
            if options.ready is not None:
                replace_whole(options.ready, lambda file: file.write_text(worker.name, encoding="utf-8"))
            worker.work()
    except FlickbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def leave_at_end(leave: Callable[[], None]) -> None:
    """Calls `leave` on SIGTERM, on Ctrl-C, and when the parent process is gone, which closes standard input."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave())
    threading.Thread(target=wait, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
