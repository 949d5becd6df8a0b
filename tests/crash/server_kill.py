"""kill -9 of what takes jobs in, mid-write: what was acknowledged is there, and the next one starts."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.blocking import Blocking
from tests.crash import made
from tests.crash.ward import Ward

from flickbook.store.base import Query
from flickbook.store.connect import connect

#: Trials on one database, clients that ask at once, seconds between the first answer and the kill at most.
_TOGETHER: Final = 50
_CLIENTS: Final = 3
_LONGEST: Final = 0.25
_PATIENCE: Final = 30.0


@dataclass
class Outcome:
    """Answers that were given before the kills, what was wrong later, and seconds until the next one answered."""

    faults: list[str] = field(default_factory=list)
    trials: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    kept_unanswered: int = 0
    starts: list[float] = field(default_factory=list)
    real_starts: list[float] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count what other trials found too."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def queue(ward: Ward, place: Path, trials: int, seed: int) -> Outcome:
    """Kill a process that submits bursts of jobs, and look for each that it acknowledged."""
    outcome, chance = Outcome(), random.Random(f"{seed} queue")
    acknowledged: set[str] = set()
    for trial in range(trials):
        base = place / f"queue-{trial // _TOGETHER}"
        if trial % _TOGETHER == 0:
            base.mkdir(parents=True)
            acknowledged.clear()
        name, url = f"s{trial}", f"sqlite:///{base / 'jobs.db'}"
        began = time.monotonic()
        ward.fork("submitter", name, store=url, jobs=str(base / "jobs"))
        kill_at, kept = float("inf"), set[str]()
        while time.monotonic() < kill_at:
            for said in ward.said(min(0.05, kill_at - time.monotonic())):
                if said.name == name and said.word == "ready":
                    outcome.starts.append(said.at - began)
                    kill_at = said.at + chance.uniform(0, _LONGEST)
                elif said.name == name:
                    kept.add(said.job)
            if time.monotonic() - began > _PATIENCE:
                raise RuntimeError(f"{name} does not start: {ward.log()}")
        ward.kill(name)
        kept |= {said.job for said in ward.said(0) if said.name == name and said.word == "kept"}
        acknowledged |= kept
        outcome.trials += 1
        outcome.acknowledged += len(kept)
        outcome.faults += _missing(url, acknowledged, trial)
    return outcome


def _missing(url: str, acknowledged: set[str], trial: int) -> list[str]:
    """What is wrong with a store after a kill, opened as the next process would."""
    with Blocking(connect(url)) as store:
        faults = [f"trial {trial}: the store is damaged: {line}" for line in store.check()]
        there = {job.id for job in store.find(Query(limit=1_000_000))}
    return faults + [f"trial {trial}: {id} was acknowledged and is lost" for id in acknowledged - there]


class _Client(threading.Thread):
    """Asks for jobs one after the other until the connection breaks; each has an Idempotency-Key of its own."""

    def __init__(self, port: int, bodies: list[dict[str, Any]], prefix: str) -> None:
        super().__init__(daemon=True)
        self._port, self._bodies, self._prefix = port, bodies, prefix
        self.answered: dict[str, str] = {}
        self.open: tuple[str, str, dict[str, Any]] | None = None
        self.refused: list[str] = []
        self.first = threading.Event()

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError):
            link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
            for number in range(1_000_000):
                path = "/v1/videos" if number % 2 else "/api/v1/jobs"
                key, body = f"{self._prefix}-{number}", self._bodies[number % len(self._bodies)]
                self.open = (key, path, body)
                id = ask(link, path, body, key)
                self.open = None
                self.answered[key] = id
                self.first.set()
        self.first.set()


class Refused(ValueError):
    """An answer that is no job."""


def ask(link: http.client.HTTPConnection, path: str, body: Mapping[str, Any], key: str) -> str:
    """Ask for a job; its id, whichever face it was asked through. Raises OSError, HTTPException, Refused."""
    headers = {"content-type": "application/json", "idempotency-key": key}
    told = dict(body)
    if path == "/v1/videos":
        told = {"prompt": body["prompt"], "seed": body["seed"], "size": "128x128"}
    link.request("POST", path, json.dumps(told), headers)
    answer = link.getresponse()
    text = answer.read()
    if answer.status not in (200, 201, 202):
        raise Refused(f"{answer.status}: {text[:300]!r}")
    return str(json.loads(text)["id"]).replace("video_", "job_")


def http_service(ward: Ward, place: Path, trials: int, seed: int, real_every: int = 20) -> Outcome:
    """Kill the service while clients ask it for jobs; one in `real_every` is a whole `flickbook serve`."""
    outcome = Outcome()
    for number in range(0, trials, _TOGETHER):
        one = _Served(ward, place / f"http-{number}", random.Random(f"{seed} http {number}"))
        outcome.add(one.run(min(_TOGETHER, trials - number), number, real_every))
    return outcome


class _Served:
    """Trials on one database."""

    def __init__(self, ward: Ward, base: Path, chance: random.Random) -> None:
        base.mkdir(parents=True)
        self._ward, self._base, self._chance = ward, base, chance
        self._url, self._jobs = f"sqlite:///{base / 'jobs.db'}", base / "jobs"
        self._keys, self._open = dict[str, str](), dict[str, tuple[str, dict[str, Any]]]()
        self._bodies = [each.model_dump(mode="json", exclude_none=True) for each in made.requests()]

    def run(self, trials: int, number: int, real_every: int) -> Outcome:
        outcome = Outcome()
        for trial in range(number, number + trials):
            real = trial % real_every == real_every - 1
            with self._service(f"h{trial}", real) as (port, took):
                (outcome.real_starts if real else outcome.starts).append(took)
                outcome.faults += self._settle(port, outcome)
                clients = [_Client(port, self._bodies, f"t{trial}-{n}") for n in range(_CLIENTS)]
                for client in clients:
                    client.start()
                assert clients[0].first.wait(_PATIENCE)
                time.sleep(self._chance.uniform(0, _LONGEST))
            for client in clients:
                client.join(_PATIENCE)
                self._keys |= client.answered
                outcome.acknowledged += len(client.answered)
                if client.open is not None:
                    key, path, body = client.open
                    self._open[key] = (path, body)
            outcome.trials += 1
            outcome.faults += _missing(self._url, set(self._keys.values()), trial)
        with self._service("last", False) as (port, _):
            outcome.faults += self._settle(port, outcome)
        outcome.faults += self._doubles()
        return outcome

    def _settle(self, port: int, outcome: Outcome) -> list[str]:
        """Ask again for what was not answered when the service died, under the same keys."""
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        with Blocking(connect(self._url)) as store:
            there = {job.id for job in store.find(Query(limit=1_000_000))}
        faults = []
        for key, (path, body) in self._open.items():
            outcome.unanswered += 1
            try:
                self._keys[key] = ask(link, path, body, key)
                outcome.kept_unanswered += self._keys[key] in there
            except (OSError, http.client.HTTPException, Refused) as error:
                faults.append(f"{key} asked again: {error}")
        self._open.clear()
        return faults

    def _doubles(self) -> list[str]:
        """Each key has one job, and there is no other."""
        with Blocking(connect(self._url)) as store:
            jobs = {job.id for job in store.find(Query(limit=1_000_000))}
            count = sum(store.counts().values())
        faults = [f"{key} has no job" for key, id in self._keys.items() if id not in jobs]
        faults += ["two keys have one job"] * (len(set(self._keys.values())) != len(self._keys))
        return faults + ([f"{count} jobs of {len(self._keys)} keys"] if count != len(self._keys) else [])

    @contextmanager
    def _service(self, name: str, real: bool) -> Iterator[tuple[int, float]]:
        """A service that answers: its port, and the seconds until it did. It is killed at the end, its answers open."""
        said, began = self._base / f"{name}.txt", time.monotonic()
        process: subprocess.Popen[bytes] | None = None
        if real:
            command = [sys.executable, "-m", "flickbook", "serve", "--port", "0", "--workers", "0"]
            environment = self._ward.environment | {"FLICKBOOK_JOBS_DIR": str(self._jobs)}
            with open(said, "wb") as file:
                process = subprocess.Popen([*command, "--store", self._url], stderr=file, env=environment)
        else:
            self._ward.fork("server", name, store=self._url, jobs=str(self._jobs), log=str(said))
        try:
            port = port_of(said, began + _PATIENCE)
            yield port, time.monotonic() - began
        finally:
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()
            else:
                self._ward.kill(name)


def port_of(said: Path, until: float) -> int:
    """The port of a service, once it answers there; `said` is what it writes to stderr."""
    while time.monotonic() < until:
        text = said.read_text(encoding="utf-8") if said.exists() else ""
        if "serving at " in text:
            port = int(text.partition("serving at http://127.0.0.1:")[2].split(" ")[0])
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                return port
        time.sleep(0.01)
    raise RuntimeError(f"the service does not start: {said.read_text(encoding='utf-8')[-2000:]}")
