"""Which worker takes a job: one that holds its model already, unless waiting for it takes longer than loading it.

Each worker publishes what it holds as a note in the store, and reads the notes of the others. A worker leaves a queued
job to another one

    - that has the job's model loaded, for as many seconds as loading it takes;
    - that has more memory, if the job does not fit into this machine's.

Times are measured by each worker for itself, so clocks of different machines are never compared.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flickbook.engine.films import estimate_plan, loaded_models
from flickbook.engine.memory.fit import Machine
from flickbook.errors import FlickbookError
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import BEAT
from flickbook.spec import Step
from flickbook.store.base import Job, Note

#: Queued jobs that are examined for one that should run here.
AMONG: Final = 32
#: The kind of the notes, and heartbeats without which a worker counts as gone.
NOTE: Final = "worker"
_GONE: Final = 4
#: Seconds that loading a model is expected to take before it was measured.
_LOAD: Final = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """Another worker: the models that it has loaded, the memory of its device in bytes, and the seconds that loading a
    model took there.
    """

    models: frozenset[str]
    memory: int = 0
    load: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Waiting:
    """The jobs that were left to others, by id, with the time since when."""

    since: dict[str, float] = field(default_factory=dict)

    def seconds(self, id: str, now: float) -> float:
        """How long a job was left to others by now; 0 the first time."""
        while len(self.since) > 4 * AMONG:
            del self.since[next(iter(self.since))]
        return now - self.since.setdefault(id, now)


def takes(
    model: str,
    waited: Callable[[], float],
    here: Peer,
    others: Sequence[Peer],
    fits: Callable[[], bool] = lambda: True,
) -> bool:
    """Whether this worker takes a job of `model` that it has left to others for `waited` seconds."""
    if any(peer.memory > here.memory for peer in others) and not fits():
        return False
    if model in here.models or not any(model in peer.models for peer in others):
        return True
    known = [peer.load[model] for peer in (here, *others) if model in peer.load]
    return waited() >= (max(known) if known else _LOAD)


class Placement:
    """What this worker holds, and what the others hold. A thread publishes the one and reads the other every `beat`
    seconds. A context manager.
    """

    def __init__(self, backend: Backend, name: str, beat: float = BEAT) -> None:
        self._backend, self._name, self._beat = backend, name, beat
        self._waiting, self._load, self._fit = Waiting(), dict[str, float](), dict[tuple[object, ...], bool]()
        self._peers: list[Peer] = []
        self._seen: dict[str, tuple[int, float]] = {}
        self._count = 0
        machine = Machine.here()
        self._memory = machine.gpu_total if machine.device == "cuda" else machine.memory_total
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="placement", daemon=True)

    def __enter__(self) -> Placement:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        try:
            self._backend.ask(self._backend.store.drop(NOTE, self._name))
        except FlickbookError as error:  # the others notice that it no longer changes
            logger.warning("%s", error)

    def takes(self, job: Job) -> bool:
        """Whether this worker should claim a queued job."""
        model, here = job.plan.model, Peer(loaded_models(), self._memory, self._load)

        def waited() -> float:
            return self._waiting.seconds(job.id, time.monotonic())

        return takes(model, waited, here, self._peers, lambda: self._fits(job))

    def note_step(self, job: Job, step: Step) -> None:
        """Remembers how long loading the model of a job took."""
        if step.phase == "load" and step.index == step.total:
            self._load[job.plan.model] = step.seconds

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
        while True:
            try:
                self._publish()
                self._read()
            except FlickbookError as error:
                logger.warning("the other workers are not known: %s", error)
                self._peers = []
            if self._over.wait(self._beat):
                return

    def _publish(self) -> None:
        self._count += 1
        body = {"count": self._count, "models": sorted(loaded_models()), "memory": self._memory, "load": self._load}
        self._backend.ask(self._backend.store.put(Note(kind=NOTE, id=self._name, body=json.dumps(body))))

    def _read(self) -> None:
        """Reads the notes of the others. One that has not changed for some heartbeats is that of a dead worker."""
        found, now = [], time.monotonic()
        for note in self._backend.ask(self._backend.store.notes(NOTE)):
            if note.id == self._name:
                continue
            body = json.loads(note.body)
            count, since = self._seen.get(note.id, (0, now))
            if count != body["count"]:
                self._seen[note.id] = body["count"], now
            elif now - since > _GONE * self._beat:
                self._backend.ask(self._backend.store.drop(NOTE, note.id))
                continue
            found.append(Peer(frozenset(body["models"]), int(body["memory"]), body["load"]))
        self._peers = found
