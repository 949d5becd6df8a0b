"""What a forked process does: the package's own worker, service and queue, which say on a pipe where they are."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.crash import made

from flickbook import settings
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.films import forget
from flickbook.errors import StoreError
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import completed
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.runner import Runner
from flickbook.jobs.workers.worker import Worker
from flickbook.store.base import Job, Result, Store
from flickbook.store.connect import connect


class Pipe:
    """Says lines of "name word job attempt monotonic-time"; each arrives whole."""

    def __init__(self, path: str, name: str) -> None:
        self._handle, self._name = os.open(path, os.O_WRONLY), name

    def say(self, word: str, job: str = "-", attempt: int = 0) -> None:
        os.write(self._handle, f"{self._name} {word} {job} {attempt} {time.monotonic():.6f}\n".encode("ascii"))


class ToldStore:
    """A store that says when something is claimed and settled; `fails` raises at its n-th call, before or after it."""

    def __init__(self, store: Store, pipe: Pipe, fails: int = 0, after: bool = False) -> None:
        self._store, self._pipe, self._fails, self._after, self._calls = store, pipe, fails, after, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*words: Any, **told: Any) -> Any:
            return await self._counted(name, found(*words, **told))

        return call

    async def _counted(self, name: str, call: Any) -> Any:
        self._calls += name not in ("open", "close")
        hit = self._calls == self._fails and name not in ("open", "close")
        if hit and not self._after:
            call.close()
        given = None if hit and not self._after else await call
        if hit:
            self._pipe.say(f"failed-{name}")
            raise StoreError("the store", "the disk failed (a test)", "check the disk")
        return given

    async def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        self._pipe.say("claim")
        job: Job | None = await self._counted("claim", self._store.claim(worker, seconds, id))
        if job is not None:
            self._pipe.say("load", job.id, job.attempt)
        return job

    async def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        call = self._store.settle(id, attempt, changes, lapsed)
        if not lapsed:
            self._pipe.say("settle", id, attempt)
        job: Job | None = await self._counted("settle", call)
        if not lapsed:
            self._pipe.say("refused" if job is None else "settled", id, attempt)
        return job


class ToldShelf(ArtifactStore):
    """A shelf that says which phase of a job begins."""

    def __init__(self, root: Path, pipe: Pipe) -> None:
        super().__init__(root)
        self._pipe, self._last = pipe, ("", "")

    def write_progress(self, id: str, **progress: Any) -> None:
        super().write_progress(id, **progress)
        phase, done = progress["phase"], progress["index"] >= progress["total"]
        following = {"load": "encode", "encode": "denoise", "denoise": "decode", "decode": "write"}
        begins = following.get(phase, "write") if done else phase
        if (id, begins) != self._last:
            self._last = (id, begins)
            self._pipe.say(begins, id, progress["attempt"])
        if phase == "denoise":
            self._pipe.say("step", id, progress["index"])


class Eager(Runner):
    """Keeps its state after nearly every step, as a film of an hour would."""

    def _checkpointer(self, job: Job, attempt: Attempt, batch: str = "") -> Checkpointer:
        checkpointer = super()._checkpointer(job, attempt, batch)
        checkpointer.share = 1.0
        return checkpointer


def worker(
    fifo: str,
    name: str,
    store: str,
    jobs: str,
    lease: float,
    beat: float,
    cold: bool = False,
    eager: bool = False,
    fails: int = 0,
    after: bool = False,
    plain: bool = False,
) -> None:
    """Work on the queue until SIGTERM: `cold` loads the model first, `plain` gives up what root may do to any file."""
    if plain:
        _no_capabilities()
    logging.basicConfig(level=settings.load().log_level.upper())
    if cold:
        forget()
    pipe = Pipe(fifo, name)
    told: Any = ToldStore(connect(store), pipe, fails, after)
    with Backend(told, ToldShelf(Path(jobs), pipe)) as backend:
        found = Worker(backend, name, lease=lease, beat=beat)
        if eager:
            found._runner = Eager(backend, lease=lease, beat=beat)
        signal.signal(signal.SIGTERM, lambda *_: found.leave())
        found.work()


def _no_capabilities() -> None:
    """Without them a file's mode holds for root too. Raises OSError where that is not Linux."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "capset", None)
    if call is None or call((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "the capabilities cannot be given up")


def claimer(store: str, out: str, start: float) -> None:
    """Claim and settle whatever there is, and write down what was claimed."""
    claimed = []
    with Backend(connect(store), ArtifactStore(Path(out).parent / "jobs")) as backend:
        time.sleep(max(0.0, start - time.monotonic()))
        while (job := backend.ask(backend.store.claim(str(os.getpid()), 600.0))) is not None:
            claimed.append(job.id)
            backend.ask(backend.store.settle(job.id, job.attempt, completed(job, Result(), 0.1)))
    Path(out).write_text(json.dumps(claimed), encoding="ascii")


def holder(fifo: str, name: str, store: str, jobs: str, lease: float) -> None:
    """Claim, stop, and once continued try to renew and to settle; over and over."""
    pipe = Pipe(fifo, name)
    with Backend(connect(store), ArtifactStore(Path(jobs))) as backend:
        while (job := backend.ask(backend.store.claim(name, lease))) is not None:
            pipe.say("held", job.id, job.attempt)
            os.kill(os.getpid(), signal.SIGSTOP)
            renewed = backend.ask(backend.store.renew(job.id, job.attempt, lease, 0.9))
            settled = backend.ask(backend.store.settle(job.id, job.attempt, completed(job, Result(path=name), 1.0)))
            pipe.say("refused" if renewed is None and settled is None else "accepted", job.id, job.attempt)


def submitter(fifo: str, name: str, store: str, jobs: str) -> None:
    """Submit bursts of jobs, and acknowledge each once it is kept."""
    pipe, templates = Pipe(fifo, name), made.templates()
    with Backend(connect(store), ArtifactStore(Path(jobs))) as backend:
        pipe.say("ready")
        number = 0
        while True:
            number += 1
            burst = [made.fresh(templates[n % len(templates)]) for n in range(1 + number % 4)]
            for job in backend.ask(backend.queue.submit(burst)):
                pipe.say("kept", job.id)


def server(store: str, jobs: str, accounts: Sequence[str] = ()) -> None:
    """The service without workers, on a free port that it prints on stderr; `accounts` are NAME:PASSWORD."""
    from flickbook.server.run import run
    from flickbook.server.service import Service
    from flickbook.web.mount import mount

    named = {name: password for name, _, password in (each.partition(":") for each in accounts)}
    files, chosen = ArtifactStore(Path(jobs)), settings.load(store=store)
    run(Service(connect(store), files, chosen, port=0, workers=0, accounts=named), mount)


def tuner(clips: str, output: str) -> None:
    """A training of a few updates of the built-in model, with a checkpoint after each."""
    from tests.crash.tune_kill import training

    from flickbook.learn.tuning.tune import prepare, tune

    tune(prepare(training(Path(clips), Path(output))))


ROLES: dict[str, Callable[..., None]] = {
    "worker": worker,
    "claimer": claimer,
    "holder": holder,
    "submitter": submitter,
    "server": server,
    "tuner": tuner,
}
