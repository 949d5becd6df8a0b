"""Rate limits of callers, shared by all server processes and kept across restarts, and the lockout of addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from flickbook.errors import StoreError
from flickbook.store.base import Store

#: Writing requests per minute: for a key without a rate of its own, and for local use without keys.
RATE: Final = 600
LOCAL_RATE: Final = 60_000
#: The read limit is this multiple of the write limit.
READS: Final = 100
WINDOW: Final = 60.0
#: The number of bad keys that an address may send in a window, and the seconds of that window.
MAX_FAILURES: Final = 20
FAILURES_WINDOW: Final = 300.0
#: Wrong passwords for an account before further attempts are delayed, the longest delay in seconds, and the seconds
#: without an attempt after which they are forgotten.
FREE_ATTEMPTS: Final = 5
LONGEST_DELAY: Final = 300.0
FORGOTTEN: Final = 86_400.0
#: The most buckets, addresses and known visitors kept in memory.
_MOST: Final = 10_000


@dataclass
class _Bucket:
    """This process's share of a rate bucket, until a time on its monotonic clock."""

    tokens: int = 0
    until: float = 0.0
    end: float = 0.0
    full: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def spend(self, now: float) -> bool:
        if self.tokens > 0 and now < self.until:
            self.tokens -= 1
            return True
        return False


class Rates:
    """Fixed-window rate limits. The store counts; each process takes blocks of a hundredth of the limit from it.

    A block serves requests of its window only. Each process thus keeps the limit within 1 %, and a request costs a
    commit only when a block is used up. The next block is taken ahead of time when possible.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._taking: set[asyncio.Task[None]] = set()

    async def take(self, name: str, limit: int, window: float = WINDOW) -> float:
        """Count one request. Returns 0 if it may pass, else the seconds until the next window begins."""
        bucket = self._bucket(name)
        wait = self._try(bucket, name, limit, window)
        if wait is not None:
            return wait
        async with bucket.lock:
            # Other requests waited for the same block; use what they left.
            wait = self._try(bucket, name, limit, window)
            if wait is None:
                await self._refill(bucket, name, limit, window)
                now = time.monotonic()
                wait = 0.0 if bucket.spend(now) else max(0.05, bucket.until - now)
        return wait

    def _bucket(self, name: str) -> _Bucket:
        bucket = self._buckets.setdefault(name, _Bucket())
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return bucket

    def _try(self, bucket: _Bucket, name: str, limit: int, window: float) -> float | None:
        """Return 0 or the wait if it is known without the store, else None."""
        now = time.monotonic()
        if bucket.spend(now):
            if bucket.tokens == _block(limit) // 4 and bucket.tokens and not bucket.lock.locked():
                task = asyncio.create_task(self._ahead(bucket, name, limit, window))
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)
            return 0.0
        return bucket.until - now if bucket.full and now < bucket.until else None

    async def _ahead(self, bucket: _Bucket, name: str, limit: int, window: float) -> None:
        with suppress(StoreError):  # the request that needs the block will retry and get the error
            async with bucket.lock:
                await self._refill(bucket, name, limit, window)

    async def _refill(self, bucket: _Bucket, name: str, limit: int, window: float) -> None:
        granted, end = await self._store.take(name, _block(limit), limit, window)
        left = end - await self._store.now()
        same = abs(end - bucket.end) < 0.001
        bucket.tokens = granted + (bucket.tokens if same else 0)
        bucket.end, bucket.until, bucket.full = end, time.monotonic() + left, granted == 0


def _block(limit: int) -> int:
    return max(1, limit // 100)


class AddressLockout:
    """Addresses that sent bad keys. Kept in this process only: a commit for each bad key would help an attack.

    A locked address may still use keys that it used before. A caller thus cannot lock out others who share its address
    (a proxy, an office).
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def record_failure(self, address: str) -> None:
        """Count a bad key."""
        place, now = _place(address), time.monotonic()
        count, since = self._failures.pop(place, (0, now))
        self._failures[place] = (count + 1, since) if now - since < FAILURES_WINDOW else (1, now)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def clear_failure(self, address: str) -> None:
        """Take back one failure, for an attempt that was right. Earlier strikes stay; otherwise the owner of an account
        could clear them by logging in."""
        count, since = self._failures.get(_place(address), (0, 0.0))
        if count:
            self._failures[_place(address)] = (count - 1, since)

    def trust(self, address: str, key: str) -> None:
        """Remember that a valid key came from an address."""
        self._known[_place(address), key] = None
        self._known.move_to_end((_place(address), key))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def locked(self, address: str, key: str = "") -> float:
        """Return the seconds until an address may try again, 0 if it may now or has used this key before. Logins pass
        no key, so no address is exempt from the lockout: passwords can be guessed."""
        place = _place(address)
        count, since = self._failures.get(place, (0, 0.0))
        left = since + FAILURES_WINDOW - time.monotonic()
        if count < MAX_FAILURES or left <= 0 or (place, key) in self._known:
            return 0.0
        return left


class Attempts:
    """Failed logins by account name. After FREE_ATTEMPTS of them the delay doubles with each attempt.

    Unknown names are delayed too, grouped by hash. The delay therefore does not reveal which names exist, and invented
    names use no memory.
    """

    def __init__(self, accounts: Collection[str]) -> None:
        self._accounts = frozenset(accounts)
        self._failed: dict[str | int, tuple[int, float]] = {}

    def wait(self, name: str) -> float:
        """Return the seconds until the next attempt is allowed, 0 for now."""
        return max(0.0, self._of(name)[1] - time.monotonic())

    def count(self, name: str) -> None:
        """Count a failed attempt."""
        count = self._of(name)[0] + 1
        delay = min(LONGEST_DELAY, 2.0 ** min(count - FREE_ATTEMPTS, 30)) if count >= FREE_ATTEMPTS else 0.0
        self._failed[self._key(name)] = (count, time.monotonic() + delay)

    def forget(self, name: str) -> None:
        """Forget the failures of an account after a successful login."""
        self._failed.pop(self._key(name), None)

    def _of(self, name: str) -> tuple[int, float]:
        count, until = self._failed.get(self._key(name), (0, 0.0))
        return (count, until) if time.monotonic() - until < FORGOTTEN else (0, 0.0)

    def _key(self, name: str) -> str | int:
        return name if name in self._accounts else hash(name) % _MOST


def _place(address: str) -> str:
    """Return the address, or for IPv6 its /64 network, which is what one subscriber has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
