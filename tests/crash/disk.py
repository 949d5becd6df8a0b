"""A disk that is full, is read-only or fails, at every phase: the job says so, and the worker goes on."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.blocking import Blocking
from tests.crash import check, made
from tests.crash.ward import Said, Ward

from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.store.base import Job
from flickbook.store.connect import connect

PHASES: Final = ("load", "encode", "denoise", "decode", "write", "settle")
KINDS: Final = ("full", "full for the store", "no file grows", "read-only", "no more files")
#: What a job may fail with then.
CODES: Final = frozenset({"output", "store", "unexpected"})
_JOB: Final = re.compile(r"/jobs/../job_\w+")
_PATIENCE: Final = 90.0
_LEASE: Final = 1.0
_SIZE: Final = 8 << 20


@dataclass
class Outcome:
    """What was tried, by kind and phase, and what became of the job whose phase it was."""

    faults: list[str] = field(default_factory=list)
    ended: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    calls: int = 0


class _Trial:
    """One worker, one job that meets the fault at a phase, and one after it."""

    def __init__(self, ward: Ward, place: Path, number: int) -> None:
        self._ward, self.place, self._name = ward, place, f"d{number}"
        self.jobs, self.data = place / "jobs", place / "data"
        for each in (place, self.jobs, self.data):
            each.mkdir(parents=True, exist_ok=True)
        self._url = f"sqlite:///{self.data / 'jobs.db'}"

    def run(
        self, phase: str, begin: Callable[[int], None], end: Callable[[int], None], plain: bool = False
    ) -> list[str]:
        """The fault begins when `phase` does, and ends once the worker looks for other work; what was wrong, and at the
        end of the list how the first job ended."""
        artifacts, templates = ArtifactStore(self.jobs), made.templates()
        how = {"store": self._url, "jobs": str(self.jobs), "lease": _LEASE, "beat": _LEASE / 6, "eager": True}
        with Blocking(connect(self._url)) as store:
            queue, job = Queue(store.store, artifacts), made.fresh(templates[3])
            store.ask(queue.submit([job]))
            # A model that is warm says nothing when it encodes.
            pid = self._ward.fork("worker", self._name, **how, plain=plain, cold=phase in ("load", "encode"))
            said = self._hear(lambda said: (said.job, said.word) == (job.id, phase), _PATIENCE)
            if said is None:
                raise RuntimeError(f"{self._name} does not get to {phase}: {self._ward.log()}")
            self._ward.signal(self._name, signal.SIGSTOP)
            begin(pid)
            try:
                self._ward.signal(self._name, signal.SIGCONT)
                # A store that cannot even be read is asked again and again, and nothing is said of it.
                self._hear(lambda other: other.word == "claim" and other.at > said.at, 3 * _LEASE)
            finally:
                end(pid)
            after = made.fresh(templates[0])
            store.ask(queue.submit([after]))
            first, second = (_done(store, each.id) for each in (job, after))
            self._ward.signal(self._name, signal.SIGTERM)
            code = self._ward.reap(self._name)
            faults = [f"the worker ended with {code}"] if code else []
            if second is None or second.state != "completed":
                faults.append(f"the next job is {'stuck' if second is None else second.state + ' ' + second.error}")
            asked = {each.id: each.plan.key() for each in (job, after)}
            faults += check.everything(store, artifacts, asked, self._ward.twins, failures=CODES).faults
        if first is None:
            return [*faults, "it is stuck", "stuck"]
        return [*faults, first.state + (f": {first.error}" if first.error else "")]

    def _hear(self, wanted: Callable[[Said], bool], seconds: float) -> Said | None:
        for said in self._ward.until(seconds):
            if said.name == self._name and wanted(said):
                return said
        return None


def _done(store: Blocking, id: str) -> Job | None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        job = store.get(id)
        if job is not None and job.state in ("completed", "failed"):
            return job
        time.sleep(0.05)
    return None


@contextmanager
def _small(path: Path) -> Iterator[bool]:
    """A file system of 8 MB at `path`, if we may mount one."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def _fill(path: Path) -> None:
    """Until not one byte more has a place."""
    with suppress(OSError), open(path / "filler", "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)


def faulty(ward: Ward, place: Path, kinds: tuple[str, ...] = KINDS, phases: tuple[str, ...] = PHASES) -> Outcome:
    """Every kind of fault at every phase."""
    outcome, number = Outcome(), 0
    for kind in kinds:
        for phase in phases:
            number += 1
            trial = _Trial(ward, place / f"{number}", number)
            told = _one(trial, kind, phase)
            if told is None:
                outcome.skipped[kind] = "no file system may be mounted here" if "full" in kind else "not as this user"
                break
            *faults, ended = told
            outcome.faults += [f"{kind}, {phase}: {fault}" for fault in faults]
            outcome.ended.setdefault(kind, {})[phase] = _JOB.sub("…", ended.replace(str(trial.place), ""))
    return outcome


def _one(trial: _Trial, kind: str, phase: str) -> list[str] | None:
    """One fault at one phase; None where it cannot be had here."""
    if kind in ("full", "full for the store"):
        where = trial.jobs if kind == "full" else trial.data
        with _small(where) as mounted:
            return trial.run(phase, lambda _: _fill(where), lambda _: _free(where)) if mounted else None
    if kind == "read-only":
        plain = os.getuid() == 0
        if plain and sys.platform != "linux":
            return None
        return trial.run(phase, lambda _: _chmod(trial.jobs, 0o555), lambda _: _chmod(trial.jobs, 0o755), plain)
    which = resource.RLIMIT_FSIZE if kind == "no file grows" else resource.RLIMIT_NOFILE
    if not hasattr(resource, "prlimit"):
        return None
    before: list[tuple[int, int]] = []

    def begin(pid: int) -> None:
        before.append(resource.prlimit(pid, which))
        soft = 0 if which == resource.RLIMIT_FSIZE else len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, which, (soft, before[0][1]))

    return trial.run(phase, begin, lambda pid: resource.prlimit(pid, which, before[0]) and None)


def _free(place: Path) -> None:
    (place / "filler").unlink()


def _chmod(place: Path, mode: int) -> None:
    for directory, _, _ in os.walk(place):
        os.chmod(directory, mode)


def every_call(ward: Ward, place: Path, every: int = 1, most: int = 200) -> Outcome:
    """The store fails at its n-th call, before or after it has done what it was asked; n = 1, 1 + every, …"""
    outcome = Outcome()
    for after in (False, True):
        for n in range(1, most, every):
            name, base = f"f{n}{'a' if after else 'b'}", place / f"call-{n}-{after}"
            base.mkdir(parents=True)
            url, artifacts = f"sqlite:///{base / 'jobs.db'}", ArtifactStore(base / "jobs")
            with Blocking(connect(url)) as store:
                jobs = [made.fresh(made.templates()[number]) for number in (3, 0)]
                store.ask(Queue(store.store, artifacts).submit(jobs))
                how = {"store": url, "jobs": str(artifacts.root), "lease": 0.5, "beat": 0.1}
                ward.fork("worker", name, **how, fails=n, after=after)
                ended = [_done(store, job.id) for job in jobs]
                hit = [said.word for said in ward.said(0) if said.name == name and said.word.startswith("failed-")]
                ward.signal(name, signal.SIGTERM)
                code = ward.reap(name)
                faults = [f"the worker ended with {code}"] if code else []
                faults += ["a job is stuck"] * (None in ended)
                asked = {job.id: job.plan.key() for job in jobs}
                faults += check.everything(store, artifacts, asked, ward.twins, failures=CODES).faults
            outcome.faults += [f"call {n} {hit} {'after' if after else 'before'}: {fault}" for fault in faults]
            if not hit:
                break
            outcome.calls += 1
    return outcome
