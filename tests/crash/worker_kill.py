"""kill -9 of workers at random instants of every phase, and what has become of their jobs afterwards."""

from __future__ import annotations

import math
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.blocking import Blocking
from tests.crash import check, made
from tests.crash.ward import Said, Ward

from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.store.base import Query
from flickbook.store.connect import connect

PHASES: Final = ("claim", "load", "encode", "denoise", "decode", "write", "settle")
#: Workers at once, jobs that wait for them at least, and seconds between two looks at leases.
WORKERS: Final = 3
_WAITING: Final = 12
_LOOK: Final = 0.1
#: Seconds that a phase is thought to last before one was seen.
_SPAN: Final = 0.01


@dataclass
class Outcome:
    """What the kills did: in which phase they fell, and seconds until an orphan was free again by its lease alone."""

    found: check.Found = field(default_factory=check.Found)
    kills: Counter[str] = field(default_factory=Counter)
    requeued: list[float] = field(default_factory=list)
    buried: int = 0
    jobs: int = 0


@dataclass
class _Fate:
    """When a worker is killed: in a phase of the job after so many others, at a share of that phase."""

    phase: str
    after: int
    share: float
    due: float = math.inf
    last: str = "claim"
    job: str = ""


class Batch:
    """Kills on one database; `lease` and `beat` in seconds."""

    def __init__(self, ward: Ward, place: Path, chance: random.Random, lease: float, beat: float) -> None:
        self._ward, self._chance, self._lease, self._beat = ward, chance, lease, beat
        self._url, self._artifacts = f"sqlite:///{place / 'jobs.db'}", ArtifactStore(place / "jobs")
        place.mkdir(parents=True)
        self._store = Blocking(connect(self._url))
        self._queue = Queue(self._store.store, self._artifacts)
        self._templates, self._asked = made.templates(), dict[str, str]()
        self._fates, self._killed = dict[str, _Fate](), Counter[str]()
        self._orphans: dict[tuple[str, int], float] = {}
        self._spans: dict[str, float] = dict.fromkeys(PHASES, _SPAN)
        self._began: dict[str, Said] = {}
        self.outcome, self._number = Outcome(), 0

    def run(self, kills: int) -> Outcome:
        """Kill so many workers, let what is left be done, and look at everything."""
        with self._store:
            looked = 0.0
            while sum(self.outcome.kills.values()) < kills:
                self._fill(_WAITING)
                while len(self._fates) < WORKERS:
                    self._start(self._fate())
                self._listen()
                if time.monotonic() - looked > _LOOK:
                    self._look()
                    self._mourn()
                    looked = time.monotonic()
            for fate in self._fates.values():
                fate.phase, fate.due = "", math.inf
            while len(self._fates) < WORKERS:
                self._start(_Fate("", 0, 0.0))
            self._finish()
            found = check.everything(self._store, self._artifacts, self._asked, self._ward.twins, self._killed)
            self.outcome.found.add(found)
            self.outcome.jobs = len(self._asked)
        return self.outcome

    def _fill(self, waiting: int) -> None:
        if self._store.counts()["queued"] >= waiting:
            return
        jobs = [made.fresh(self._chance.choice(self._templates)) for _ in range(2 * waiting)]
        for job in self._store.ask(self._queue.submit(jobs)):
            self._asked[job.id] = job.plan.key()

    def _fate(self) -> _Fate:
        return _Fate(self._chance.choice(PHASES), self._chance.randrange(5), self._chance.random())

    def _start(self, fate: _Fate) -> None:
        self._number += 1
        name = f"w{self._number}"
        cold, eager = fate.phase in ("load", "encode"), self._chance.random() < 0.5
        if cold:
            fate.after = 0  # only the first of its jobs loads the model, and says where that ends
        place = {"store": self._url, "jobs": str(self._artifacts.root), "lease": self._lease, "beat": self._beat}
        self._ward.fork("worker", name, **place, cold=cold, eager=eager)
        self._fates[name] = fate

    def _listen(self) -> None:
        """Hear what workers say, and kill those whose time has come."""
        due = min((fate.due for fate in self._fates.values()), default=math.inf)
        for said in self._ward.said(min(_LOOK, due - time.monotonic())):
            self._hear(said)
        for name, fate in list(self._fates.items()):
            if time.monotonic() >= fate.due:
                self._kill(name, fate)

    def _hear(self, said: Said) -> None:
        fate = self._fates.get(said.name)
        if fate is None or said.word in ("step", "failed"):
            return
        before = self._began.get(said.name)
        if before is not None and before.word in self._spans:
            self._spans[before.word] += 0.2 * (said.at - before.at - self._spans[before.word])
        self._began[said.name] = said
        fate.last, fate.job = said.word, said.job
        if said.word == "settled":
            fate.after -= 1
            # A film that goes on from its last step has nothing to encode any more.
            fate.phase = "decode" if fate.phase and fate.after < -2 else fate.phase
        if said.word == fate.phase and fate.after <= 0 and fate.due == math.inf:
            fate.due = said.at + 1.1 * fate.share * self._spans[fate.phase]

    def _kill(self, name: str, fate: _Fate) -> None:
        self._ward.kill(name)
        at = time.monotonic()
        for said in self._ward.said(0):
            self._hear(said)
        del self._fates[name]
        self.outcome.kills[fate.last if fate.last in PHASES else "after settle"] += 1
        for job in self._store.find(Query(states=("running",), worker=name)):
            if job.worker != name:
                continue
            self._killed[job.id] += 1
            self._orphans[job.id, job.attempt] = at
        if self._chance.random() < 0.25:  # as a supervisor does that sees it die
            for job in self._store.ask(self._queue.release_jobs_of(name, "killed by a test")):
                self._orphans.pop((job.id, job.attempt), None)
                self.outcome.buried += 1

    def _look(self) -> None:
        """Which orphans are nobody's any more, or somebody else's."""
        if not self._orphans:
            return
        running = {(job.id, job.attempt) for job in self._store.find(Query(states=("running",), limit=1000))}
        for key in [key for key in self._orphans if key not in running]:
            self.outcome.requeued.append(time.monotonic() - self._orphans.pop(key))

    def _mourn(self) -> None:
        """A worker ends only when it is told to."""
        for name in list(self._fates):
            code = self._ward.ended(name)
            if code is not None:
                del self._fates[name]
                self.outcome.found.faults.append(f"worker {name} ended by itself with {code}: {self._ward.log()}")

    def _finish(self) -> None:
        """Wait until all is done; where nothing moves for a lease and half a minute, the check tells what is stuck."""
        before, moved = None, time.monotonic()
        while time.monotonic() - moved < self._lease + 30:
            self._listen()
            self._look()
            self._mourn()
            counts = self._store.counts()
            if counts["queued"] + counts["running"] == 0:
                break
            if counts != before:
                before, moved = counts, time.monotonic()
        for name in list(self._fates):
            self._ward.signal(name, signal.SIGTERM)
            code = self._ward.reap(name)
            if code:
                self.outcome.found.faults.append(f"worker {name} ended with {code}")
        self._fates.clear()


def run(ward: Ward, place: Path, trials: int, seed: int, *, lease: float = 3.0, beat: float = 0.5) -> Outcome:
    """`trials` kills, fifty to a database."""
    whole, done = Outcome(), 0
    while done < trials:
        some = min(50, trials - done)
        chance = random.Random(f"{seed} {done} {lease}")
        part = Batch(ward, place / f"batch-{lease:g}-{done}", chance, lease, beat).run(some)
        whole.found.add(part.found)
        whole.kills += part.kills
        whole.requeued += part.requeued
        whole.buried, whole.jobs = whole.buried + part.buried, whole.jobs + part.jobs
        done += sum(part.kills.values())
    return whole
