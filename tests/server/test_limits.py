"""Rates hold within 1 % over processes and restarts, and cost a commit a block; strangers are locked out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.server.live import live

from flickbook.server import limits
from flickbook.server.limits import Rates, Strangers
from flickbook.store.sqlite import SqliteStore


class Counted(SqliteStore):
    """A store that says how often it was asked for tokens."""

    takes = 0

    async def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        self.takes += 1
        return await super().take(bucket, amount, limit, window)


def on(place: Path, work: Callable[[Callable[[], Awaitable[Counted]]], Awaitable[None]]) -> None:
    """Run `work`, which is given a way to open faces of one store."""

    async def main() -> None:
        stores = []

        async def another() -> Counted:
            stores.append(Counted(place / "flickbook.db"))
            await stores[-1].open()
            return stores[-1]

        await work(another)
        for store in stores:
            await store.close()

    asyncio.run(main())


async def ask(rates: Rates, count: int, limit: int, window: float = 600.0) -> int:
    """How many of `count` requests at once pass."""
    return sum(wait == 0 for wait in await asyncio.gather(*(rates.take("k", limit, window) for _ in range(count))))


@pytest.mark.parametrize("limit", [7, 60, 1000])
def test_200_clients_at_once_get_the_limit_and_no_more(tmp_path: Path, limit: int) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        store = await another()
        rates, passed = Rates(store), 0
        for _ in range(2 + limit // 200):
            passed += await ask(rates, 200, limit)
        assert passed == limit
        asked = store.takes
        assert await ask(rates, 200, limit) == 0
        assert store.takes == asked  # that it is full costs nothing to know

    on(tmp_path, work)


def test_two_processes_and_a_restart_share_one_limit(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        first, second = Rates(await another()), Rates(await another())
        passed = await ask(first, 300, 1000) + await ask(second, 300, 1000)
        assert passed == 600
        # The first ends with what is left of its block: that is all that may be lost.
        third = Rates(await another())
        passed += await ask(third, 1000, 1000) + await ask(second, 1000, 1000)
        assert 990 <= passed <= 1000

    on(tmp_path, work)


def test_a_block_serves_a_hundredth_of_the_limit(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        store = await another()
        rates = Rates(store)
        for _ in range(600):
            assert await rates.take("k", 6000) == 0
        assert 10 <= store.takes <= 11  # the next block is taken beforehand

    on(tmp_path, work)


def test_a_window_ends_and_another_begins(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        rates = Rates(await another())
        assert await ask(rates, 20, 5, 0.5) == 5
        wait = await rates.take("k", 5, 0.5)
        assert 0 < wait <= 0.5
        await asyncio.sleep(wait + 0.05)
        assert await ask(rates, 20, 5, 0.5) == 5

    on(tmp_path, work)


def test_buckets_do_not_touch_each_other(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        rates = Rates(await another())
        assert [await rates.take(name, 1) == 0 for name in ("a", "b", "a")] == [True, True, False]

    on(tmp_path, work)


def test_an_address_that_sends_bad_keys_is_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = Strangers()
    strangers.welcome("10.0.0.1", "known")
    for _ in range(limits.STRIKES):
        assert strangers.locked("10.0.0.1", "") == 0
        strangers.strike("10.0.0.1")
    assert 0 < strangers.locked("10.0.0.1", "new") <= limits.STRIKES_WINDOW
    assert strangers.locked("10.0.0.1", "known") == 0
    assert strangers.locked("10.0.0.2", "") == 0
    monkeypatch.setattr(limits, "STRIKES_WINDOW", 0.0)
    assert strangers.locked("10.0.0.1", "new") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    strangers = Strangers()
    for number in range(limits.STRIKES):
        strangers.strike(f"2001:db8:1:2::{number:x}")
    assert strangers.locked("2001:db8:1:2:ffff::1", "")
    assert not strangers.locked("2001:db8:1:3::1", "")


def test_over_http_a_limit_is_429_with_the_time_to_wait(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, key = service.key("few", "read", "create", rate=3)
        answers = [service.post("/api/v1/nothing", headers=key) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["error"]["code"] == "limit_reached"
        # What is read has another bucket.
        assert service.get("/api/v1/jobs", headers=key).status_code == 200


def test_seconds_on_the_device_are_limited_by_the_day(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, key = service.key("poor", quota=10)
        body = {"prompt": "a red circle"}
        assert service.post("/api/v1/jobs", headers=key, json=body).status_code < 400
        made = service.job(owner="poor")
        service.ask(service.service.store.change(made.id, ("queued",), {"seconds": 11.0}))
        refused = service.post("/api/v1/jobs", headers=key, json=body)
        assert (refused.status_code, refused.json()["error"]["field"]) == (429, "quota")
        assert service.post(f"/api/v1/jobs/{made.id}/cancel", headers=key).status_code < 400
