"""How much a caller may ask for: rates that several processes share and a restart does not forget, and a lock-out."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
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

    def welcome(self, address: str, key: str) -> None:
        """Remember that a good key came from an address."""
        self._known[_place(address), key] = None
        self._known.move_to_end((_place(address), key))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def locked(self, address: str, key: str) -> float:
        """In how many seconds an address is heard again; 0 if it is heard now, or has used this key before."""
        place = _place(address)
        count, since = self._strikes.get(place, (0, 0.0))
        left = since + STRIKES_WINDOW - time.monotonic()
        if count < STRIKES or left <= 0 or (place, key) in self._known:
            return 0.0
        return left


def _place(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, which is what one subscriber has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
