"""How much a caller may ask for: rates that several processes share and a restart does not forget, and a lock-out."""

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

#: Requests a minute that make or change something: of a key that names no rate, and of the local person.
RATE: Final = 600
LOCAL_RATE: Final = 60_000
#: So many times more may be read.
READS: Final = 100
WINDOW: Final = 60.0
#: Bad keys that an address may send in a window of so many seconds.
STRIKES: Final = 20
STRIKES_WINDOW: Final = 300.0
#: Wrong passwords that an account may be sent before the next attempt is delayed, the longest delay, and after how long
#: without an attempt they are forgotten, both in seconds.
FREE_ATTEMPTS: Final = 5
LONGEST_DELAY: Final = 300.0
FORGOTTEN: Final = 86_400.0
#: Buckets, addresses and visitors that are remembered.
_MOST: Final = 10_000


@dataclass
class _Bucket:
    """What this process holds of a bucket until a moment of its own clock."""

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
    """Requests in fixed windows. The store counts; a process takes a hundredth of a limit from it at a time.

    What it took serves the requests of that window, so that a limit holds within 1 % for each process, and a request
    costs a commit only when a block is used up. The next block is taken beforehand where there is time for it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._taking: set[asyncio.Task[None]] = set()

    async def take(self, name: str, limit: int, window: float = WINDOW) -> float:
        """Count one request; 0 if it may pass, else in how many seconds the next window begins."""
        bucket = self._bucket(name)
        wait = self._try(bucket, name, limit, window)
        if wait is not None:
            return wait
        async with bucket.lock:
            # Others waited for the same block: what they left serves this one.
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
        """0 or the wait where that can be told without the store."""
        now = time.monotonic()
        if bucket.spend(now):
            if bucket.tokens == _block(limit) // 4 and bucket.tokens and not bucket.lock.locked():
                task = asyncio.create_task(self._ahead(bucket, name, limit, window))
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)
            return 0.0
        return bucket.until - now if bucket.full and now < bucket.until else None

    async def _ahead(self, bucket: _Bucket, name: str, limit: int, window: float) -> None:
        with suppress(StoreError):  # whoever needs the block will ask again, and be told
            async with bucket.lock:
                await self._refill(bucket, name, limit, window)

    async def _refill(self, bucket: _Bucket, name: str, limit: int, window: float) -> None:
        given, end = await self._store.take(name, _block(limit), limit, window)
        left = end - await self._store.now()
        same = abs(end - bucket.end) < 0.001
        bucket.tokens = given + (bucket.tokens if same else 0)
        bucket.end, bucket.until, bucket.full = end, time.monotonic() + left, given == 0


def _block(limit: int) -> int:
    return max(1, limit // 100)


class Strangers:
    """Addresses that send bad keys. It is kept in this process only: a commit for each bad key would be their weapon.

    While an address is locked out, only those keys are heard that it had used before, so that one who shares it (a
    proxy, an office) cannot be shut out by another.
    """

    def __init__(self) -> None:
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def strike(self, address: str) -> None:
        """Count a bad key."""
        place, now = _place(address), time.monotonic()
        count, since = self._strikes.pop(place, (0, now))
        self._strikes[place] = (count + 1, since) if now - since < STRIKES_WINDOW else (1, now)
        if len(self._strikes) > _MOST:
            self._strikes.popitem(last=False)

    def forgive(self, address: str) -> None:
        """Take back one strike, of an attempt that was right. Earlier strikes stay, or whoever has an account could
        clear them by logging in to it."""
        count, since = self._strikes.get(_place(address), (0, 0.0))
        if count:
            self._strikes[_place(address)] = (count - 1, since)

    def welcome(self, address: str, key: str) -> None:
        """Remember that a good key came from an address."""
        self._known[_place(address), key] = None
        self._known.move_to_end((_place(address), key))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def locked(self, address: str, key: str = "") -> float:
        """In how many seconds an address is heard again; 0 if it is heard now, or has used this key before. Passwords
        can be guessed, so no address is exempt for them: they give no key."""
        place = _place(address)
        count, since = self._strikes.get(place, (0, 0.0))
        left = since + STRIKES_WINDOW - time.monotonic()
        if count < STRIKES or left <= 0 or (place, key) in self._known:
            return 0.0
        return left


class Attempts:
    """Failed logins by the name of an account. After some of them each further attempt has to wait twice as long.

    A name that is no account is delayed as well, together with others of its hash, so that the delay tells nobody which
    names there are, and made-up names take no memory.
    """

    def __init__(self, accounts: Collection[str]) -> None:
        self._accounts = frozenset(accounts)
        self._failed: dict[str | int, tuple[int, float]] = {}

    def wait(self, name: str) -> float:
        """In how many seconds the next attempt may be made; 0 for now."""
        return max(0.0, self._of(name)[1] - time.monotonic())

    def count(self, name: str) -> None:
        """Count an attempt as failed."""
        count = self._of(name)[0] + 1
        delay = min(LONGEST_DELAY, 2.0 ** min(count - FREE_ATTEMPTS, 30)) if count >= FREE_ATTEMPTS else 0.0
        self._failed[self._key(name)] = (count, time.monotonic() + delay)

    def forget(self, name: str) -> None:
        """Forget the failures of an account: its password was given."""
        self._failed.pop(self._key(name), None)

    def _of(self, name: str) -> tuple[int, float]:
        count, until = self._failed.get(self._key(name), (0, 0.0))
        return (count, until) if time.monotonic() - until < FORGOTTEN else (0, 0.0)

    def _key(self, name: str) -> str | int:
        return name if name in self._accounts else hash(name) % _MOST


def _place(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, which is what one subscriber has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
