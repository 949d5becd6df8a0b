"""How long a cancelled job still runs."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.blocking import Blocking
from tests.crash import made
from tests.crash.ward import Said, Ward

from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.create import ordered
from flickbook.jobs.queue import Queue
from flickbook.store.connect import connect

_PATIENCE: Final = 120.0


@dataclass
class Outcome:
    """Seconds from the wish to the state, of running and of queued jobs, and of a step around it."""

    faults: list[str] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    over_a_step: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)


def run(ward: Ward, place: Path, trials: int, seed: int, latest: int = 20) -> Outcome:
    """Cancel films at random steps of the first `latest` of 25, and jobs that wait."""
    place.mkdir(parents=True)
    url, artifacts, outcome = f"sqlite:///{place / 'jobs.db'}", ArtifactStore(place / "jobs"), Outcome()
    chance, template = random.Random(f"{seed} cancel"), ordered(made.LONG)
    with Blocking(connect(url)) as store:
        queue = Queue(store.store, artifacts)
        ward.fork("worker", "cancelled", store=url, jobs=str(artifacts.root), lease=30.0, beat=5.0)
        for _ in range(trials):
            job, waiting = made.fresh(template), made.fresh(template)
            began = time.monotonic()
            store.ask(queue.submit([job]))
            outcome.commits.append(time.monotonic() - began)
            # The worker has the other one, which came first.
            store.ask(queue.submit([waiting]))
            began = time.monotonic()
            state = store.ask(queue.cancel(waiting.id)).state
            outcome.queued.append(time.monotonic() - began)
            outcome.faults += [f"{waiting.id} is {state}"] * (state != "cancelled")
            _running(ward, store, queue, job.id, chance.randint(1, latest), outcome)
        ward.signal("cancelled", signal.SIGTERM)
        code = ward.reap("cancelled")
        outcome.faults += [f"the worker ended with {code}"] if code else []
        for id in artifacts.ids():
            left = [each.name for each in artifacts.of(id).iterdir() if each.name.startswith(("film-", "."))]
            outcome.faults += [f"{id} left {left}"] if left else []
        outcome.faults += store.check()
    return outcome


def _running(ward: Ward, store: Blocking, queue: Queue, id: str, at: int, outcome: Outcome) -> None:
    """Cancel one film once `at` of its 25 steps are done."""
    steps: list[Said] = []
    for said in ward.until(_PATIENCE):
        if said.word == "step" and said.job == id:
            steps.append(said)
            if said.attempt >= at:
                break
    # Between two steps as much as at one.
    time.sleep(0.7 * random.random() * _step(steps))
    began = time.monotonic()
    store.ask(queue.cancel(id))
    while (job := store.get(id)) is not None and job.state == "running" and time.monotonic() - began < _PATIENCE:
        time.sleep(0.002)
    took = time.monotonic() - began
    steps += [said for said in ward.said(0) if said.word == "step" and said.job == id]
    outcome.faults += [f"{id} is {'gone' if job is None else job.state}"] * (job is None or job.state != "cancelled")
    outcome.running.append(took)
    outcome.steps.append(_step(steps))
    outcome.over_a_step.append(took - outcome.steps[-1])


def _step(steps: list[Said]) -> float:
    """Seconds of the longest of the last steps."""
    gaps = [second.at - first.at for first, second in zip(steps, steps[1:], strict=False)]
    return max(gaps[-5:], default=0.1)
