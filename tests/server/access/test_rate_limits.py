"""Rates hold within 1 % over processes and restarts, and cost a commit a block; lockout are locked out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.server.live import live

from flickbook.server.access import rate_limits
from flickbook.server.access.rate_limits import AddressLockout, Attempts, Rates
from flickbook.store.sqlite.store import SqliteStore


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
def test_200_parallel_clients_get_exactly_the_limit(tmp_path: Path, limit: int) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        store = await another()
        rates, passed = Rates(store), 0
        for _ in range(2 + limit // 200):
            passed += await ask(rates, 200, limit)
        assert passed == limit
        requested = store.takes
        assert await ask(rates, 200, limit) == 0
        assert store.takes == requested  # that it is full costs nothing to know

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


def test_a_block_holds_a_hundredth_of_the_limit(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        store = await another()
        rates = Rates(store)
        for _ in range(600):
            assert await rates.take("k", 6000) == 0
        assert 10 <= store.takes <= 11  # the next block is taken beforehand

    on(tmp_path, work)


def test_the_limit_is_restored_in_the_next_window(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        rates = Rates(await another())
        assert await ask(rates, 20, 5, 0.5) == 5
        wait = await rates.take("k", 5, 0.5)
        assert 0 < wait <= 0.5
        await asyncio.sleep(wait + 0.05)
        assert await ask(rates, 20, 5, 0.5) == 5

    on(tmp_path, work)


def test_buckets_are_independent(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        rates = Rates(await another())
        assert [await rates.take(name, 1) == 0 for name in ("a", "b", "a")] == [True, True, False]

    on(tmp_path, work)


def test_an_address_that_sends_bad_keys_is_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lockout = AddressLockout()
    lockout.trust("10.0.0.1", "known")
    for _ in range(rate_limits.MAX_FAILURES):
        assert lockout.locked("10.0.0.1", "") == 0
        lockout.record_failure("10.0.0.1")
    assert 0 < lockout.locked("10.0.0.1", "new") <= rate_limits.FAILURES_WINDOW
    assert lockout.locked("10.0.0.1", "known") == 0
    assert lockout.locked("10.0.0.2", "") == 0
    monkeypatch.setattr(rate_limits, "FAILURES_WINDOW", 0.0)
    assert lockout.locked("10.0.0.1", "new") == 0


def test_an_ipv6_64_network_counts_as_one_address() -> None:
    lockout = AddressLockout()
    for number in range(rate_limits.MAX_FAILURES):
        lockout.record_failure(f"2001:db8:1:2::{number:x}")
    assert lockout.locked("2001:db8:1:2:ffff::1", "")
    assert not lockout.locked("2001:db8:1:3::1", "")


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(rate_limits.time, "monotonic", lambda: self.now)


def test_strikes_are_forgotten_after_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lockout = Clock(monkeypatch), AddressLockout()
    for _ in range(rate_limits.MAX_FAILURES):
        lockout.record_failure("10.0.0.1")
    clock.now += rate_limits.FAILURES_WINDOW - 1
    assert lockout.locked("10.0.0.1") == 1
    clock.now += 1
    assert lockout.locked("10.0.0.1") == 0
    # The next one begins a window of its own, which locks as the first did.
    for number in range(rate_limits.MAX_FAILURES):
        assert lockout.locked("10.0.0.1") == 0, number
        lockout.record_failure("10.0.0.1")
    assert lockout.locked("10.0.0.1") == rate_limits.FAILURES_WINDOW


def test_one_ipv4_client_of_a_dual_stack_socket_does_not_lock_the_others() -> None:
    lockout = AddressLockout()
    for _ in range(rate_limits.MAX_FAILURES):
        lockout.record_failure("::ffff:203.0.113.1")
    assert lockout.locked("203.0.113.1") and lockout.locked("::ffff:203.0.113.1")
    assert not lockout.locked("::ffff:203.0.113.2")


def test_the_number_of_remembered_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST", 2)
    monkeypatch.setattr(rate_limits, "MAX_FAILURES", 1)
    lockout = AddressLockout()
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
        lockout.record_failure(address)
    # The one that was quiet for longest is forgotten.
    assert [bool(lockout.locked(f"10.0.0.{number}")) for number in (1, 2, 3)] == [True, False, True]


def test_each_further_attempt_waits_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, attempts = Clock(monkeypatch), Attempts(["ada"])
    waits = []
    for _ in range(rate_limits.FREE_ATTEMPTS + 12):
        attempts.count("ada")
        waits.append(attempts.wait("ada"))
        clock.now += waits[-1]
    assert waits[: rate_limits.FREE_ATTEMPTS - 1] == [0.0] * (rate_limits.FREE_ATTEMPTS - 1)
    assert waits[rate_limits.FREE_ATTEMPTS - 1 :][:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert waits[-1] == rate_limits.LONGEST_DELAY
    assert attempts.wait("bob") == 0
    attempts.count("ada")
    attempts.forget("ada")
    assert attempts.wait("ada") == 0
    # A day without an attempt forgets them too.
    for _ in range(rate_limits.FREE_ATTEMPTS + 9):
        attempts.count("ada")
    clock.now += rate_limits.LONGEST_DELAY + rate_limits.FORGOTTEN
    attempts.count("ada")
    assert attempts.wait("ada") == 0


def test_unknown_account_names_are_delayed_without_using_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST", 3)
    attempts = Attempts(["ada"])
    for number in range(100):
        attempts.count(f"nobody{number}")
    assert attempts.wait("nobody1") > 0 and attempts.wait("ada") == 0
    assert len(attempts._failed) <= 3


def test_unused_tokens_expire_with_their_window(tmp_path: Path) -> None:
    async def work(another: Callable[[], Awaitable[Counted]]) -> None:
        store = await another()
        rates = Rates(store)
        # 200 a window are taken in blocks of 2: one is left over.
        assert await rates.take("k", 200, 0.3) == 0
        bucket = rates._buckets["k"]
        assert bucket.tokens == 1
        await asyncio.sleep(max(0.0, bucket.until - time.monotonic()) + 0.01)
        assert await rates.take("k", 200, 600.0) == 0
        assert bucket.tokens == 1

    on(tmp_path, work)


def test_over_http_a_limit_is_429_with_the_time_to_wait(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, key = service.key("few", "read", "create", rate=3)
        answers = [service.post("/api/v1/nothing", headers=key) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["error"]["code"] == "limit_reached"
        # What is read has another bucket.
        assert service.get("/api/v1/jobs", headers=key).status_code == 200


def test_device_seconds_are_limited_per_day(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, key = service.key("poor", quota=10)
        body = {"prompt": "a red circle"}
        assert service.post("/api/v1/jobs", headers=key, json=body).status_code < 400
        made = service.job(owner="poor")
        service.ask(service.service.store.change(made.id, ("queued",), {"seconds": 11.0}))
        refused = service.post("/api/v1/jobs", headers=key, json=body)
        assert (refused.status_code, refused.json()["error"]["field"]) == (429, "quota")
        assert service.post(f"/api/v1/jobs/{made.id}/cancel", headers=key).status_code < 400
