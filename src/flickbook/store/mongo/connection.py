"""The connection to MongoDB: client, server type, server clock, and readable errors."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from flickbook.errors import MissingExtra, StoreError
from flickbook.store.mongo.url import MongoUrl

try:
    import pymongo
    from bson.errors import BSONError
    from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
    from pymongo import errors as failures
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.read_concern import ReadConcern
except ImportError:
    raise MissingExtra("pymongo", "mongo") from None

Document = dict[str, Any]
Collection = AsyncCollection[Document]

#: Milliseconds, unless the URL says otherwise: a command should not wait long for an unreachable server.
DEFAULTS: Final = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "socketTimeoutMS": 20_000}
CONFIRMED_WITHIN: Final = 10_000
REFRESH: Final = 60.0
#: Maximum correction of the clock at once (s), so that a correction does not end leases.
STRIDE: Final = 0.5
#: A clock that is further off (s) is set at once: it is wrong and would keep the leases of dead workers for hours.
ASTRAY: Final = 30.0
_DRIVER: Final = Path(pymongo.__file__).parent
_UNAUTHORISED: Final = frozenset({8000, 13, 18, 31})


def tick(seconds: float) -> float:
    """Rounds a time (s) to a tenth of a millisecond, which survives servers that keep 15 digits."""
    return round(seconds, 4)


class ServerClock:
    """The server's time, advanced by this machine's monotonic clock."""

    def __init__(self) -> None:
        self.offset: float | None = None
        self.read_at = 0.0

    def due(self) -> bool:
        """Whether the server's time should be read again."""
        return self.offset is None or time.monotonic() - self.read_at >= REFRESH

    def take(self, sent_at: float, received_at: float, server_time: float) -> None:
        """Records that the server reported `server_time` (s) between two readings of the monotonic clock."""
        found = server_time - (sent_at + received_at) / 2
        self.read_at = received_at
        if self.offset is None or abs(found - self.offset) > ASTRAY:
            self.offset = found
        else:
            self.offset += min(max(found - self.offset, -STRIDE), STRIDE)

    def now(self) -> float:
        """Seconds since 1970 by the server's clock."""
        return tick(time.monotonic() + (self.offset or 0.0))


class MongoLink:
    """One client and one database. `several` is true for a replica set or a sharded cluster."""

    def __init__(self, address: MongoUrl) -> None:
        self.address = address
        self.clock = ServerClock()
        self.several = False
        self._open = False
        self._clients: list[AsyncMongoClient[Document]] = []
        self._database: AsyncDatabase[Document] | None = None
        self._where: tuple[int, object] = (0, None)

    def __repr__(self) -> str:
        return f"MongoLink({self.address.shown!r})"

    async def open(self) -> str:
        """Connects and returns a description of the server. Raises StoreError if it is unreachable or could lose
        writes.
        """
        self._open = True
        with self.translated_errors():
            hello = await self._read_clock()
            version = (await self._here().client.admin.command("buildInfo")).get("version", "of unknown version")
        self.several = "setName" in hello or hello.get("msg") == "isdbgrid"
        self._refuse_weak()
        # Replica sets and clusters use majority concerns from here on.
        self._database = self._strict(self._clients[-1])
        kind = f"replica set {hello['setName']}" if "setName" in hello else "one server without replica set"
        if hello.get("msg") == "isdbgrid":
            kind = "sharded cluster"
        # Other servers speak the protocol too, and report the version of MongoDB that they follow.
        return f"MongoDB protocol {version}, {kind}, {self.address.shown}"

    async def close(self) -> None:
        clients, self._clients, self._database, self._open = self._clients, [], None, False
        # Do not close a client of the parent process or of an event loop that has ended.
        if clients and self._where == (os.getpid(), asyncio.get_running_loop()):
            with self.translated_errors():
                await clients[-1].close()

    def __getitem__(self, name: str) -> Collection:
        """A collection with the store's read and write concerns."""
        return self._here()[name]

    def light(self, name: str) -> Collection:
        """A collection of counters that need no majority of their own.

        Members replay writes in order: a majority that confirms the following job also has the counter.
        """
        return self[name].with_options(read_concern=ReadConcern("local"), write_concern=WriteConcern(1))

    async def now(self) -> float:
        """The clock of leases."""
        if self.clock.due():
            with self.translated_errors():
                await self._read_clock()
        return self.clock.now()

    async def _read_clock(self) -> Document:
        """Reads the primary's time; returns its whole `hello` response."""
        admin = self._here().client.admin
        # The first call also selects the server, so only the second one has a short round trip.
        for _ in range(2 if self.clock.offset is None else 1):
            sent_at = time.monotonic()
            hello: Document = await admin.command("hello", read_preference=ReadPreference.PRIMARY)
            received_at = time.monotonic()
        at: datetime = hello["localTime"]
        self.clock.take(sent_at, received_at, at.replace(tzinfo=at.tzinfo or UTC).timestamp())
        return hello

    def _here(self) -> AsyncDatabase[Document]:
        """The database, with a client of this process and event loop: sockets and locks cannot be shared."""
        where = (os.getpid(), asyncio.get_running_loop())
        if not self._open:
            raise StoreError(self.address.shown, "is not open", "open the store before using it")
        if self._database is None or self._where != where:
            self._clients.append(self._client())
            self._database, self._where = self._strict(self._clients[-1]), where
        return self._database

    def _client(self) -> AsyncMongoClient[Document]:
        options = self.address.options
        patience: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if name.lower() not in options}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                client: AsyncMongoClient[Document] = AsyncMongoClient(self.address.text, **patience)
            except ValueError as error:
                raise failures.ConfigurationError(str(error)) from None
        # The driver ignores options that it does not understand: tls=yes would send everything unencrypted.
        for warning in caught:
            # Ignore other warnings of this process, such as an unclosed socket.
            if warning.category in (UserWarning, DeprecationWarning) and _DRIVER in Path(warning.filename).parents:
                raise failures.ConfigurationError(str(warning.message))
        return client

    def _refuse_weak(self) -> None:
        """Raises StoreError for a URL with a write concern that a crash may undo."""
        options = self.address.options
        journal = options.get("journal", options.get("j", "true")).lower()
        w = options.get("w", "majority")
        weak = w == "0" or (self.several and w != "majority")
        if weak or journal == "false":
            setting = f"w={w}" if weak else "journal=false"
            remedy = "write w=majority in the address, or leave it out" if weak else "leave journal=false out"
            raise StoreError(self.address.shown, f"uses {setting}, so it could lose confirmed writes", remedy)

    def _strict(self, client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
        options = self.address.options
        within = int(options.get("wtimeoutms", options.get("wtimeout", CONFIRMED_WITHIN)))
        return client.get_database(
            self.address.database,
            # Without a replica set the server is its own majority, and few such servers know read concerns.
            read_concern=ReadConcern("majority") if self.several else None,
            write_concern=WriteConcern("majority", wtimeout=within, j=True),
            read_preference=ReadPreference.PRIMARY,
        )

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turns every error of the driver into a readable StoreError without secrets."""
        try:
            yield
        except (failures.PyMongoError, BSONError, UnicodeError, OSError) as error:
            # Suppress the driver's message in tracebacks: it may quote the URL.
            reason, remedy = _explained(self.address, error)
            raise StoreError(self.address.shown, self.address.clean(reason), remedy) from None


def _explained(address: MongoUrl, error: Exception) -> tuple[str, str]:
    """The reason and the remedy of an error of the driver; subclasses come before their base classes."""
    if isinstance(error, failures.ServerSelectionTimeoutError | failures.NotPrimaryError):
        return _unreachable(address, error)
    if isinstance(error, failures.WriteConcernError):
        return "did not confirm by a majority in time", "check that most members of the replica set run, then try again"
    if isinstance(error, failures.OperationFailure):
        return _refused(error)
    if isinstance(error, failures.ConfigurationError):
        if "DNS" in str(error):
            return "has no entry in DNS that can be found", "check the name and the DNS of this machine"
        return f"cannot be understood by the driver: {error}", "correct the address"
    if isinstance(error, BSONError | UnicodeError):
        return "cannot store this text", "remove characters that are not Unicode text, such as lone surrogates"
    if isinstance(error, failures.ConnectionFailure | OSError):
        return "broke the connection", "check that it runs, then try again; confirmed data is not lost"
    return f"failed with {type(error).__name__}", "check that it runs; `flickbook store check` checks it"


def _unreachable(address: MongoUrl, error: Exception) -> tuple[str, str]:
    patience = int(address.options.get("serverselectiontimeoutms", DEFAULTS["serverSelectionTimeoutMS"])) / 1000
    text = str(error)
    if "SSL" in text or "certificate" in text:
        return "does not agree on TLS", "check tls, tlsCAFile and the server's certificate"
    if isinstance(error, failures.NotPrimaryError) or "match selector" in text:
        return f"has no primary that answers within {patience:g} s", "check that most members of the replica set run"
    remedy = "check that it runs, that the address is right and that no firewall or access list blocks this machine"
    return f"is unreachable: no response within {patience:g} s", remedy


def _refused(error: failures.OperationFailure) -> tuple[str, str]:
    if error.code in _UNAUTHORISED or "auth" in str(error).lower():
        remedy = "correct the user, the password and authSource in the address, or grant the role readWrite"
        return f"denies access to this user (code {error.code})", remedy
    # In a bulk write each write has a reason of its own, and the whole has none.
    details: Document = {**(error.details or {})}
    first = next(iter(details.get("writeErrors", [])), details)
    reason = f"refused with code {first.get('code', error.code)}: {first.get('errmsg', 'no reason given')}"
    return reason, "see its log; `flickbook store check` checks it"
