"""Many processes on one queue: no job is claimed twice, and who was stopped past its lease is refused."""

from __future__ import annotations

import json
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.blocking import Blocking
from tests.crash import check, made
from tests.crash.ward import Said, Ward

from flickbook.errors import StoreError
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue, completed
from flickbook.store.base import Job, Query, Result, State
from flickbook.store.connect import connect

_PATIENCE: Final = 60.0
#: Seconds that a holder's claim is good for.
_SHORT: Final = 0.3


@dataclass
class Outcome:
    """What was tried and what was wrong."""

    faults: list[str] = field(default_factory=list)
    tried: int = 0
    refused: int = 0
    passed: int = 0
    seconds: float = 0.0


def rush(ward: Ward, place: Path, jobs: int, processes: int) -> Outcome:
    """So many processes on so many jobs that take no time; each was claimed once."""
    place.mkdir(parents=True)
    url, templates, outcome = f"sqlite:///{place / 'jobs.db'}", made.templates(), Outcome(tried=jobs)
    with Blocking(connect(url)) as store:
        ids = [job.id for job in store.add([made.fresh(templates[n % len(templates)]) for n in range(jobs)])]
        start = time.monotonic() + 0.1 * processes
        names = [f"c{n}" for n in range(processes)]
        for name in names:
            ward.fork("claimer", name, store=url, out=str(place / f"{name}.json"), start=start)
        outcome.faults += [f"{name} failed" for name in names if ward.reap(name) != 0]
        outcome.seconds = time.monotonic() - start
        claimed = [id for name in names for id in json.loads((place / f"{name}.json").read_text())]
        outcome.faults += [f"{len(claimed) - len(set(claimed))} jobs were claimed twice"] * (
            len(claimed) != len(set(claimed))
        )
        outcome.faults += [f"{len(set(ids) - set(claimed))} jobs were never claimed"] * (set(ids) != set(claimed))
        done = store.find(Query(states=("completed",), limit=jobs + 1))
        outcome.faults += [f"{job.id} was claimed {job.attempt} times" for job in done if job.attempt != 1]
        outcome.faults += [f"{len(done)} of {jobs} are completed"] * (len(done) != jobs) + store.check()
    return outcome


def stopped_holders(ward: Ward, place: Path, trials: int, processes: int, seed: int) -> Outcome:
    """Processes stop themselves while they hold a job, and go on when their leases are over."""
    place.mkdir(parents=True)
    url, chance, outcome = f"sqlite:///{place / 'jobs.db'}", random.Random(f"{seed} holders"), Outcome()
    templates = made.templates()
    with Blocking(connect(url)) as store:
        queue = Queue(store.store, ArtifactStore(place / "jobs"))
        store.add([made.fresh(templates[0]) for _ in range(trials + processes)])
        names = [f"p{n}" for n in range(processes)]
        for name in names:
            ward.fork("holder", name, store=url, jobs=str(place / "jobs"), lease=_SHORT)
        following: dict[str, Said] = {}
        while outcome.tried < trials:
            held = _each(ward, names, ("held",), following)
            following = {}
            time.sleep(_SHORT)
            store.ask(queue.recover())
            for said in held.values():
                fate = chance.choice(("free", "taken", "done"))
                if fate == "free":
                    continue
                job = store.claim("another", 600.0, id=said.job)
                if job is None:
                    found = store.get(said.job)
                    if found is None or found.error_code != "worker_lost":  # held three times, and got no further
                        outcome.faults.append(f"{said.job} is not free after its lease")
                elif fate == "done":
                    store.settle(job.id, job.attempt, completed(job, Result(path="another's"), 1.0))
            before = {said.job: store.get(said.job) for said in held.values()}
            for name in names:
                ward.signal(name, signal.SIGCONT)
            answers = _each(ward, names, ("refused", "accepted"), {}, following)
            outcome.tried += len(answers)
            outcome.refused += sum(said.word == "refused" for said in answers.values())
            outcome.faults += [f"{said.job} took a stale token" for said in answers.values() if said.word != "refused"]
            for said in held.values():
                _park(store, said)
            after = {id: store.get(id) for id, job in before.items() if job is not None and job.state != "queued"}
            outcome.faults += [f"{id} was changed" for id, job in after.items() if job != before[id]]
        for name in names:
            ward.kill(name)
        outcome.faults += store.check()
    return outcome


def _park(store: Blocking, said: Said) -> None:
    """Take a job that is free out of the queue, so that holders go on to others."""
    queued: tuple[State, ...] = ("queued",)
    store.change(said.job, queued, {"state": "paused"})


def _each(
    ward: Ward, names: list[str], words: tuple[str, ...], found: dict[str, Said], beside: dict[str, Said] | None = None
) -> dict[str, Said]:
    """What each process said first of these words, added to `found`; other words are put `beside`."""
    end = time.monotonic() + _PATIENCE
    while len(found) < len(names) and time.monotonic() < end:
        for said in ward.said(0.25):
            if said.word in words:
                found[said.name] = said
            elif beside is not None:
                beside[said.name] = said
    if len(found) < len(names):
        raise RuntimeError(f"{sorted(set(names) - set(found))} do not answer: {ward.log()}")
    return found


def stopped_workers(ward: Ward, place: Path, trials: int, seed: int, lease: float = 1.0) -> Outcome:
    """Workers are stopped past their lease at random phases of a film, while another makes it; then they go on."""
    place.mkdir(parents=True)
    url, artifacts, outcome = f"sqlite:///{place / 'jobs.db'}", ArtifactStore(place / "jobs"), Outcome()
    chance, asked, templates = random.Random(f"{seed} stopped"), dict[str, str](), made.templates()
    how = {"store": url, "jobs": str(artifacts.root), "lease": lease, "beat": lease / 6}
    with Blocking(connect(url)) as store:
        queue = Queue(store.store, artifacts)
        names = ["stopped", "other"]
        for name in names:
            ward.fork("worker", name, **how, eager=True)
        while outcome.tried < trials:
            (job,) = store.ask(queue.submit([made.fresh(chance.choice(templates))]))
            asked[job.id] = job.plan.key()
            phase = chance.choice(("load", "denoise", "decode", "write"))
            first = next((said for said in ward.until(_PATIENCE) if (said.job, said.word) == (job.id, phase)), None)
            if first is None:
                outcome.faults.append(f"{job.id} does not run")
                break
            ward.signal(first.name, signal.SIGSTOP)
            ended = _ended(store, job.id, lease + 8)
            ward.signal(first.name, signal.SIGCONT)
            if ended is None or ended.attempt == first.attempt:
                outcome.passed += 1  # it was stopped while it had the turn to write, or was through before the signal
                continue
            outcome.tried += 1
            outcome.refused += _given_up(ward, store, first)
        outcome.faults += _laid_down(ward, names)
        found = check.everything(store, artifacts, asked, ward.twins)
        outcome.faults += found.faults
    return outcome


def _ended(store: Blocking, id: str, seconds: float) -> Job | None:
    """The job once it is completed; None where it is not in time."""
    until = time.monotonic() + seconds
    with suppress(StoreError):  # who was stopped has the database locked
        while time.monotonic() < until:
            job = store.get(id)
            if job is not None and job.state == "completed":
                return job
            time.sleep(0.02)
    return None


def _given_up(ward: Ward, store: Blocking, first: Said) -> bool:
    """Wait until a continued worker looks for other work; whether the result is another's."""
    for said in ward.until(_PATIENCE):
        if said.name == first.name and said.word == "claim" and said.at > first.at:
            break
    job = store.get(first.job)
    return job is not None and job.state == "completed" and job.attempt > first.attempt


def _laid_down(ward: Ward, names: list[str]) -> list[str]:
    faults = []
    for name in names:
        ward.signal(name, signal.SIGTERM)
        code = ward.reap(name)
        faults += [f"{name} ended with {code}"] if code else []
    return faults
