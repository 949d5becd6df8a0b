"""Who is let in after things went wrong: keys after a repair, and passwords that are guessed."""

from __future__ import annotations

import http.client
import math
import random
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from tests.blocking import Blocking
from tests.crash.server_kill import port_of
from tests.crash.ward import Ward
from tests.store.examples import job
from tests.store.sqlite.test_backup import flip

from flickbook.errors import StoreError
from flickbook.jobs.api_keys import Keys
from flickbook.server.access.rate_limits import FREE_ATTEMPTS
from flickbook.store.connect import connect
from flickbook.store.sqlite import key_record
from flickbook.store.sqlite.backup import backup_of
from flickbook.store.sqlite.repair import repair

_PATIENCE: Final = 60.0
_ACCOUNT: Final = ("ada", "a long enough one")
#: Guesses that one service is sent.
_GUESSES: Final = 50


@dataclass
class Repairs:
    """Stores with keys that were damaged and repaired, and what became of their keys."""

    faults: list[str] = field(default_factory=list)
    trials: int = 0
    keys: int = 0
    lost: int = 0
    unreadable: int = 0
    damage: Counter[str] = field(default_factory=Counter)


def keys(ward: Ward, place: Path, trials: int, seed: int) -> Repairs:
    """Damage stores that have keys, repair them, and ask the service for jobs without a key: it must refuse."""
    outcome = Repairs()
    for trial in range(trials):
        base, chance = place / f"keys-{trial}", random.Random(f"{seed} keys {trial}")
        base.mkdir(parents=True)
        outcome.faults += [f"trial {trial}: {fault}" for fault in _repaired(ward, base, chance, outcome)]
        outcome.trials += 1
        shutil.rmtree(base)
    return outcome


def _repaired(ward: Ward, base: Path, chance: random.Random, outcome: Repairs) -> Iterator[str]:
    path, tokens = base / "jobs.db", dict[str, str]()
    url = f"sqlite:///{path}"
    with Blocking(connect(url)) as store:  # its backup is made here, before the first key
        store.add([job(owner="someone", error="x" * 900) for _ in range(10)])
        for number in range(chance.choice((1, 1, 3, 10))):
            key, token = store.ask(Keys(store.store).create(f"key-{number}", scopes=["admin"]))
            tokens[key.id] = token
    backup = chance.choice(("old", "none", "new"))
    if backup == "new":
        shutil.copy(path, backup_of(path))
    elif backup == "none":
        backup_of(path).unlink()
    released = chance.random() < 0.3
    if released:  # what the release before left: keys, and no record of them
        db = sqlite3.connect(path)
        db.execute("DELETE FROM marks WHERE name LIKE 'keys%'")
        db.commit()
        db.close()
        key_record.file_of(path).unlink()
    what = _damage(path, chance)
    outcome.damage[what] += 1
    outcome.keys += len(tokens)
    try:
        done = repair(path)
    except StoreError:
        outcome.unreadable += 1
        return  # nothing can be served from it
    with Blocking(connect(url)) as store:
        left = {note.id for note in store.notes("key")}
    outcome.lost += len(tokens.keys() - left)
    if done.quarantined is not None and not released and done.lost_keys.keys() != tokens.keys() - left:
        yield f"{what}: {sorted(tokens.keys() - left)} are lost, and {sorted(done.lost_keys)} were named"
    with _service(ward, base, url) as port:
        answer, _ = _asked(port, "GET", "/api/v1/jobs")
        if answer != 401:
            yield f"{what}, {backup} backup, {len(left)} of {len(tokens)} keys left: {answer} without a key"
        for id in sorted(left)[:1]:
            answer, _ = _asked(port, "GET", "/api/v1/jobs", {"authorization": f"Bearer {tokens[id]}"})
            if answer != 200:
                yield f"{what}: {answer} with a key that was saved"


def _damage(path: Path, chance: random.Random) -> str:
    """Damage a closed database; in which way."""
    way = chance.choice(("a byte of a key", "pages of keys", "any", "any", "empty"))
    if way == "any":
        return flip(path, chance).partition(" at ")[0]
    data = bytearray(path.read_bytes())
    if way == "empty":
        data.clear()
    elif way == "a byte of a key":
        data[data.rindex(b'"scopes"') + 2] ^= 1
    else:
        for start in range(0, len(data), 4096):
            if b'"scopes"' in data[start : start + 4096]:
                data[start : start + 4096] = bytes(4096)
    path.write_bytes(data)
    return way


@dataclass
class Guesses:
    """Wrong passwords that were sent, and how many of them were looked at."""

    faults: list[str] = field(default_factory=list)
    sent: int = 0
    verified: int = 0
    right: int = 0


def passwords(ward: Ward, place: Path, guesses: int, seed: int) -> Guesses:
    """Guess the password of an account whose owner logged in from the same address, with other addresses in headers."""
    outcome = Guesses()
    for number in range(0, guesses, _GUESSES):
        base, chance = place / f"passwords-{number}", random.Random(f"{seed} passwords {number}")
        base.mkdir(parents=True)
        with _service(ward, base, f"sqlite:///{base / 'jobs.db'}", [":".join(_ACCOUNT)]) as port:
            outcome.faults += _guess(port, chance, min(_GUESSES, guesses - number), outcome)
    return outcome


def _guess(port: int, chance: random.Random, guesses: int, outcome: Guesses) -> Iterator[str]:
    name, password = _ACCOUNT
    began, looked_at, refused = time.monotonic(), 0, set[str]()
    if _login(port, chance, name, password)[0] != 303:
        yield "its owner cannot log in"
    for _ in range(guesses):
        status, page = _login(port, chance, name, f"guess {chance.random()}")
        outcome.sent += 1
        looked_at += status == 401
        if status == 429:
            refused.add(page)
            if chance.random() < 0.3:
                outcome.right += 1
                status, page = _login(port, chance, name, password)
                # The delay may end between the two: then the right one is let in, and guesses begin anew.
                if status != 429 or page not in refused:
                    yield f"the right password is answered with {status}, and not as the wrong one before"
        elif status != 401:
            yield f"a guess is answered with {status}"
    outcome.verified += looked_at
    most = FREE_ATTEMPTS + math.log2(1 + time.monotonic() - began) + 1
    if looked_at > most:
        yield f"{looked_at} guesses were looked at, and {most:.0f} may be"


def _login(port: int, chance: random.Random, name: str, password: str) -> tuple[int, str]:
    """The status of a login, and its page without the seconds to wait."""
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{port}"}
    for header in chance.sample(("x-forwarded-for", "x-real-ip", "forwarded"), chance.randrange(4)):
        headers[header] = f"203.0.113.{chance.randrange(256)}"
    status, page = _asked(port, "POST", "/studio/login", headers, urlencode({"name": name, "secret": password}))
    return status, re.sub(r"in [0-9]+ s", "in N s", page)


def _asked(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None
) -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        link.request(method, path, body, headers or {})
        answer = link.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        link.close()


@contextmanager
def _service(ward: Ward, base: Path, url: str, accounts: list[str] | None = None) -> Iterator[int]:
    """The port of a service on a store, with the page to log in."""
    said = base / "said.txt"
    ward.fork("server", base.name, store=url, jobs=str(base / "jobs"), log=str(said), accounts=accounts or [])
    try:
        yield port_of(said, time.monotonic() + _PATIENCE)
    finally:
        ward.kill(base.name)
