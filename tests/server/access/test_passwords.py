"""Passwords are hashed with Argon2id, off the event loop, and so many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from flickbook.errors import LimitReached, RequestError
from flickbook.server.access import passwords
from flickbook.server.access.passwords import THREADS, WAITING, Passwords, accounts_of
from flickbook.store.base import Store
from flickbook.store.sqlite.store import SqliteStore

ACCOUNTS = {"ada": "a long enough one"}


def on(place: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    """Run `work` on an open store."""

    async def main() -> None:
        store = SqliteStore(place / "flickbook.db")
        await store.open()
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_only_the_password_of_the_account_is_accepted(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        made = Passwords(store, ACCOUNTS)
        assert await made.verify("ada", ACCOUNTS["ada"])
        for name, password in (("ada", ""), ("ada", "a long enough on"), ("bob", ACCOUNTS["ada"]), ("ada", "\ud800")):
            assert not await made.verify(name, password)
        assert not await Passwords(store, {}).verify("ada", ACCOUNTS["ada"])

    on(tmp_path, work)


def test_password_hash_is_memory_hard_and_depends_on_the_store(tmp_path: Path) -> None:
    found: list[str] = []

    async def work(store: Store) -> None:
        made = Passwords(store, ACCOUNTS)
        found.append(await made.hash_of("ada"))
        assert ACCOUNTS["ada"] not in str(vars(made)), "the password itself is not kept"

    for place in ("one", "one", "two"):
        on(tmp_path / place, work)
    assert found[0].startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert found[0] == found[1] != found[2]


def test_verification_runs_off_the_event_loop_and_limits_parallel_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, go = 0, 0, threading.Event()
    lock = threading.Lock()

    def held(found: str, password: str) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(30)
        with lock:
            running -= 1
        return False

    monkeypatch.setattr(passwords, "_verified", held)

    async def work(store: Store) -> None:
        made = Passwords(store, ACCOUNTS)
        await made.prepare()
        tries = [asyncio.create_task(made.verify("ada", "x")) for _ in range(THREADS + WAITING)]
        await asyncio.sleep(0)
        # The loop runs while they are held, and one more is not taken.
        with pytest.raises(LimitReached, match="too many logins at once"):
            await made.verify("ada", "x")
        go.set()
        assert await asyncio.gather(*tries) == [False] * len(tries)
        assert not await made.verify("ada", "x")

    on(tmp_path, work)
    assert most <= THREADS


@pytest.mark.parametrize(("name", "password"), [("a b", "long enough"), ("ada", "short"), ("", "long enough")])
def test_accounts_have_plain_names_and_long_passwords(name: str, password: str) -> None:
    with pytest.raises(RequestError, match="auth"):
        accounts_of({name: password})
