"""Which worker takes a job: one that holds its model already, unless waiting for it takes longer than loading it.

Each worker publishes what it holds as a note in the store, and reads the notes of the others. A worker leaves a queued
job to another one

    - that has the job's model loaded and will be free before this worker could have loaded it; at most for as many
      seconds as loading takes;
    - that has more memory, if the job does not fit into this machine's;
    - on whose machine the job's model is, if it is not on this one (models.py).

Times are measured by each worker for itself, so clocks of different machines are never compared.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from flickbook.engine.films import estimate_plan, loaded_models
from flickbook.engine.memory.fit import Machine
from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT
from flickbook.jobs.workers.models import installed, is_here, takes_missing
from flickbook.jobs.workers.roster import Roster
from flickbook.spec import Step
from flickbook.store.base import Job

#: Queued jobs that are examined for one that should run here, at least; with many workers twice as many as there are.
_AMONG: Final = 32
#: Seconds that loading a model is expected to take before it was measured.
_LOAD: Final = 10.0
#: Jobs that were left to others of which the time is remembered.
_REMEMBERED: Final = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """A worker: the models that it has loaded, the memory of its device in bytes, the seconds that loading a model took
    there, the seconds until it is free, and the models on its machine.
    """

    models: frozenset[str]
    memory: int = 0
    load: Mapping[str, float] = field(default_factory=dict)
    free: float = 0.0
    installed: frozenset[str] = frozenset()


def takes(
    model: str,
    waited: Callable[[], float],
    here: Peer,
    others: Sequence[Peer],
    fits: Callable[[], bool] = lambda: True,
    before: int = 0,
) -> bool:
    """Whether this worker takes a job of `model` that it has left to others for `waited` seconds.

    `before` jobs of the same model, which come first, are left to others already. Each needs a worker of its own:
    otherwise many jobs would wait for one worker, and those behind them with them.
    """
    if any(peer.memory > here.memory for peer in others) and not fits():
        return False
    free = sorted(peer.free for peer in others if model in peer.models)
    if model in here.models or before >= len(free):
        return True
    known = [peer.load[model] for peer in (here, *others) if model in peer.load]
    loading = max(known) if known else _LOAD
    return free[before] > loading or waited() >= loading


class Affinity:
    """What this worker holds, which a thread publishes every `beat` seconds, and what the others hold, which is read
    before a pass over the queue. A context manager.
    """

    def __init__(self, backend: Backend, name: str, beat: float = BEAT, fetches: bool = False) -> None:
        """`fetches`: whether this worker downloads models that are missing here."""
        self._fetches = fetches
        self._backend, self._name, self._beat = backend, name, beat
        machine = Machine.here()
        self._memory = machine.gpu_total if machine.device == "cuda" else machine.memory_total
        self._load: dict[str, float] = {}
        #: The job that runs now, "" for none.
        self._job = ""
        #: The others, and when they were read.
        self._roster = Roster(backend.store, beat)
        self._peers: list[Peer] = []
        self._looked = float("-inf")
        #: The jobs of this pass that are left to others, by model, and since when each job has been left.
        self._left: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._fit: dict[tuple[object, ...], bool] = {}
        #: By the models of a job, whether they are on this machine, during one pass.
        self._here: dict[tuple[str, ...], bool] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="affinity", daemon=True)

    def __enter__(self) -> Affinity:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        try:
            self._backend.ask(self._roster.drop(self._name))
        except FlickbookError as error:  # the others notice that it no longer changes
            logger.warning("%s", error)

    def begin(self) -> int:
        """Starts a pass over the queue, from its front; returns how many jobs to examine. Raises StoreError."""
        self._left.clear()
        self._here.clear()
        # With many workers the notes are many, so a busy worker does not read them.
        if time.monotonic() - self._looked > self._beat:
            alive = self._backend.ask(self._roster.alive())
            others = (body for name, body in alive.items() if name != self._name)
            self._peers = [_peer(body) for body in others]
            self._looked = time.monotonic()
        return max(_AMONG, 2 * len(self._peers))

    def takes(self, job: Job) -> bool:
        """Whether this worker should claim a queued job, the next one of a pass."""
        model, here = job.plan.model, Peer(loaded_models(), self._memory, self._load)
        waited, fits = partial(self._waited, job.id), partial(self._fits, job)
        peers = [peer for peer in self._peers if job.model_dir or peer.installed.issuperset(job.plan.models())]
        if not self._is_here(job):
            return takes_missing(bool(peers), self._waited(job.id), self._fetches)
        mine = takes(model, waited, here, peers, fits, self._left[model])
        self._left[model] += not mine
        return mine

    @contextmanager
    def running(self, job: Job) -> Iterator[Callable[[Step], None]]:
        """Remembers the job that runs now; yields a function for its Steps, which remembers how long loading took."""

        def step(step: Step) -> None:
            if step.phase == "load" and step.index == step.total:
                self._load[job.plan.model] = step.seconds

        self._job = job.id
        try:
            yield step
        finally:
            self._job = ""

    def _is_here(self, job: Job) -> bool:
        if job.model_dir:
            return True
        if (names := job.plan.models()) not in self._here:
            self._here[names] = is_here(job)
        return self._here[names]

    def _waited(self, id: str) -> float:
        """For how many seconds a job has been left to others; 0 the first time."""
        while len(self._since) > _REMEMBERED:
            del self._since[next(iter(self._since))]
        now = time.monotonic()
        return now - self._since.setdefault(id, now)

    def _fits(self, job: Job) -> bool:
        key = (job.plan.model, job.model_dir, job.precision, job.plan.shape())
        if key not in self._fit:
            try:
                home = Path(job.model_dir) if job.model_dir else None
                self._fit[key] = estimate_plan(job.plan, home, job.precision).fits
            except FlickbookError:  # the run itself will report the error
                self._fit[key] = True
        return self._fit[key]

    def _keep(self) -> None:
        count = 0
        while True:
            count += 1
            try:
                self._publish(count)
            except FlickbookError as error:
                logger.warning("the other workers do not know of this one: %s", error)
            if self._over.wait(self._beat):
                return

    def _publish(self, count: int) -> None:
        left = self._backend.artifacts.progress(self._job).get("eta_seconds") if self._job else 0.0
        facts = {"models": sorted(loaded_models()), "memory": self._memory, "load": self._load, "free": left or 0.0}
        facts["installed"] = installed()
        self._backend.ask(self._roster.publish(self._name, count, **facts))


def _peer(body: Mapping[str, Any]) -> Peer:
    """A worker by the note that it published."""
    models, installed = frozenset(body["models"]), frozenset(body["installed"])
    return Peer(models, int(body["memory"]), body["load"], float(body["free"]), installed)
