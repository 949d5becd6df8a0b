"""Idempotency-Key on every route that makes or changes jobs: equal, different, concurrent and interrupted requests."""

from __future__ import annotations

import io
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
from PIL import Image
from tests.blocking import Blocking
from tests.crash.server_kill import port_of
from tests.crash.ward import Ward
from tests.store.examples import job

from flickbook.jobs.api_keys import Keys
from flickbook.store.base import Query
from flickbook.store.connect import connect

_PATIENCE: Final = 60.0
_AT_ONCE: Final = 6
#: One key for all routes: each must be independent of the others.
_KEY: Final = "yy"
#: Each route with two different bodies. {id}, {video_id}, DRAFT and FILM stand for jobs that are there.
_ROUTES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "/api/v1/jobs": ({"prompt": "a"}, {"prompt": "b"}),
    "/api/v1/jobs/{id}/again": ({"seed": None}, {"seed": 3}),
    "/api/v1/drafts": ({"prompt": "a", "seeds": [1, 2]}, {"prompt": "a", "seeds": [2, 1]}),
    "/api/v1/drafts/finish": ({"ids": ["DRAFT"]}, {"ids": ["DRAFT"], "priority": -1}),
    "/api/v1/sequences": ({"prompts": ["a", "b"]}, {"prompts": ["b", "a"]}),
    "/api/v1/shots": ({"shots": [{"prompt": "a"}]}, {"shots": [{"prompt": "b"}]}),
    "/api/v1/batches": ({"rows": [{"prompt": "a"}]}, {"rows": [{"prompt": "a"}, {"prompt": "b"}]}),
    "/v1/videos": ({"prompt": "a"}, {"prompt": "b"}),
    "/v1/videos/{video_id}/remix": ({"prompt": "a"}, {"prompt": "b"}),
    "/v1/videos/edits": ({"prompt": "a"}, {"prompt": "b"}),
    "/v1/videos/extensions": ({"prompt": "a"}, {"prompt": "b"}),
    "/v1/videos/sync": ({"prompt": "a"}, {"prompt": "b"}),
    "/v1/images/generations": ({"prompt": "a", "n": 2}, {"prompt": "a", "n": 1}),
}
#: Routes that set a state, each of a queued job of its own, and the field of the answer that shows it.
_STATES: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "/api/v1/jobs/{id}/cancel": ({}, {"b": 1}, "state"),
    "/api/v1/jobs/{id}/pause": ({}, {"b": 1}, "state"),
    "/api/v1/jobs/{id}/reorder": ({"before": None}, {"before": "FILM"}, "state"),
    "/api/v1/jobs/{id}/favourite": ({"favourite": True}, {"favourite": False}, "favourite"),
    "/api/v1/jobs/{id}/priority": ({"priority": -1}, {"priority": -2}, "priority"),
    "/v1/videos/{video_id}/cancel": ({}, {"b": 1}, "status"),
    "/api/v1/models/{name}/pull": ({}, {"b": 1}, "state"),
}
_ROUTES |= {path: (body, other) for path, (body, other, _) in _STATES.items()}
ROUTES: Final = tuple(_ROUTES)
#: Only an admin may pull; its other owner is an admin too.
_ADMIN: Final = "/api/v1/models/{name}/pull"
#: The jobs that a request makes, where it is not one.
_MADE: Final = {"/api/v1/drafts": 2, "/v1/images/generations": 2, **dict.fromkeys(_STATES, 0)}
_FORMS: Final = ("/v1/videos/edits", "/v1/videos/extensions")
#: These answer when their films are done, and no worker runs here: what they made is read from the store.
_WAITING: Final = ("/v1/videos/sync", "/v1/images/generations")
_HURRY: Final = 2.0


@dataclass
class Outcome:
    """How many requests were sent, how many servers were killed, and what was wrong."""

    tried: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)


def run(ward: Ward, place: Path, seed: int) -> Outcome:
    """Try every route on two server processes that share a store; one of them is killed during a request to each."""
    place.mkdir(parents=True)
    return _Matrix(ward, place, random.Random(seed)).run()


class _Matrix:
    """The trials on one store."""

    def __init__(self, ward: Ward, place: Path, chance: random.Random) -> None:
        self._ward, self._place, self._chance = ward, place, chance
        self._found, self._url = Outcome(), f"sqlite:///{place / 'jobs.db'}"
        film, draft = job(owner="a"), job(owner="a", kind="draft", state="completed")
        self._film, self._draft = film.id, draft.id
        with Blocking(connect(self._url)) as store:
            waiting = {path: job(owner="a") for path in _STATES}
            self._waiting = {path: each.id for path, each in waiting.items()}
            store.add([film, draft, *waiting.values()])
            keys = Keys(store.store)
            self._tokens = [store.ask(keys.create(name, scopes=("read", "create")))[1] for name in "ab"]
            self._admins = [store.ask(keys.create(name, scopes=("admin",)))[1] for name in "cd"]
        movie = io.BytesIO()
        frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue", "green")]
        frames[0].save(movie, "GIF", save_all=True, append_images=frames[1:], duration=100)
        self._movie = movie.getvalue()

    def run(self) -> Outcome:
        names = [self._start(0), self._start(1)]
        for number, path in enumerate(ROUTES):
            self._rule(path, [port for _, port in names])
            self._killed(path, names)
            names = [names[1], self._start(number + 2)]
        for name, _ in names:
            self._ward.kill(name)
        return self._found

    def _start(self, number: int) -> tuple[str, int]:
        """A new server process: its name and its port."""
        name = f"i{number}"
        said = self._place / f"{name}.txt"
        self._ward.fork("server", name, store=self._url, jobs=str(self._place / "jobs"), log=str(said))
        return name, port_of(said, time.monotonic() + _PATIENCE)

    def _post(self, port: int, path: str, other: bool = False, key: str = _KEY, owner: int = 0) -> int:
        """Send one request; its status, 0 where no answer came in time."""
        self._found.tried += 1
        film = self._waiting.get(path, self._film)
        address = f"http://127.0.0.1:{port}{path}".replace("{id}", film).replace("{name}", "builtin")
        address = address.replace("{video_id}", film.replace("job_", "video_"))
        text = json.dumps(_ROUTES[path][other]).replace("DRAFT", self._draft).replace("FILM", self._film)
        body = json.loads(text)
        told: dict[str, Any] = {"json": body}
        if path in _FORMS:
            told = {"data": body, "files": {"video": ("a.gif", self._movie)}}
        token = (self._admins if path == _ADMIN else self._tokens)[owner]
        headers = {"idempotency-key": key, "authorization": f"Bearer {token}"}
        timeout = _HURRY if path in _WAITING else _PATIENCE
        with suppress(httpx2.TransportError):
            answer = httpx2.post(address, headers=headers, timeout=timeout, trust_env=False, **told)
            self._said = answer.text
            return answer.status_code
        return 0

    def _state(self, path: str) -> object:
        """What the last answer of a route that sets a state says of it."""
        return json.loads(self._said).get(_STATES[path][2]) if path in _STATES else None

    def _ids(self) -> set[str]:
        with Blocking(connect(self._url)) as store:
            return {each.id for each in store.find(Query(limit=1_000_000))}

    def _rule(self, path: str, ports: list[int]) -> None:
        """Equal requests at once, then an equal one, another one, and another owner's."""
        before = self._ids()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda number: self._post(ports[number % 2], path), range(_AT_ONCE)))
        made, want = self._ids() - before, _MADE.get(path, 1)
        self._check(len(made) == want, path, f"{_AT_ONCE} equal requests at once made {len(made)} jobs: {self._said}")
        status = self._post(ports[0], path)
        self._check(status in ((0,) if path in _WAITING else (200, 201, 202)), path, f"an equal request is {status}")
        state = self._state(path)
        status = self._post(ports[1], path, other=True)
        self._check(status == 422 and "Idempotency-Key" in self._said, path, f"another request is {status}")
        self._check(self._ids() - before == made, path, "a request under a used key made a job")
        self._post(ports[0], path)
        self._check(self._state(path) == state, path, f"after a refused request the answer is {self._said}")
        status = self._post(ports[1], path, other=True, owner=1)
        if path == _ADMIN:
            fine = status == 202
        elif "{" in path or "finish" in path:
            fine = status == 404
        else:
            fine = len(self._ids() - before) > len(made)
        self._check(fine, path, f"another owner's request under the same key is {status}")

    def _killed(self, path: str, names: list[tuple[str, int]]) -> None:
        """Kill one server during a request; the other one answers the same request with one set of jobs."""
        before, key = self._ids(), f"killed-{path}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._post, names[0][1], path, key=key)
            time.sleep(self._chance.uniform(0, 0.05))
            self._ward.kill(names[0][0])
            asked.result()
        self._found.kills += 1
        self._post(names[1][1], path, key=key)
        made, want = self._ids() - before, _MADE.get(path, 1)
        self._check(len(made) == want, path, f"{len(made)} jobs of a request that was sent again after a kill")
        status = self._post(names[1][1], path, other=True, key=key)
        self._check(status == 422, path, f"after a kill another request is {status}")
        self._check(self._ids() - before == made, path, "a request under a used key made a job after a kill")

    def _check(self, fine: bool, path: str, fault: str) -> None:
        if not fine:
            self._found.faults.append(f"{path}: {fault}")
