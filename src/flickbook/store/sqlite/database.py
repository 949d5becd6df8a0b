"""A SQLite file as one process uses it: connection, write lock, and readable errors."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from flickbook.errors import RequestError, StoreError

try:
    import fcntl
except ImportError:  # Windows: writers wait by SQLite's own locks
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
Connect = Callable[..., sqlite3.Connection]
#: Marks the file as Flickbook's in its header: "Flik" as a number.
APPLICATION_ID: Final = 0x466C696B
#: Errors of a damaged file: SQLite's own message quotes its content, which may not be valid text.
DAMAGE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
REPAIR: Final = "run `flickbook repair`"
NO_TEXT: Final = "a text in it is not valid UTF-8"


def journal_of(version: tuple[int, int, int]) -> str:
    """The journal mode for a version of SQLite: "persist" is a rollback journal, "wal" a write-ahead log.

    Before 3.51.3 a checkpoint of the log that races a commit can damage the database. "persist" is the fastest
    rollback journal whose commits are durable with synchronous=FULL: if the journal were deleted instead, a power
    cut could restore it, and with it the previous state.
    """
    return "wal" if version >= (3, 51, 3) else "persist"


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """Converts an error of SQLite to a readable StoreError."""
    code = getattr(error, "sqlite_errorcode", -1)
    known = {
        sqlite3.SQLITE_CORRUPT: ("is damaged", REPAIR),
        sqlite3.SQLITE_NOTADB: (
            "is not an SQLite database, or its beginning is damaged",
            f"{REPAIR}, or name another file",
        ),
        sqlite3.SQLITE_FULL: ("the disk is full", "free some space and try again"),
        sqlite3.SQLITE_BUSY: ("another process has locked it for too long", "try again, or end that process"),
        sqlite3.SQLITE_LOCKED: ("another process has locked it for too long", "try again, or end that process"),
        sqlite3.SQLITE_READONLY: ("is read-only", "let your user write to it and to its directory"),
        sqlite3.SQLITE_PERM: ("cannot be opened for lack of permission", "let your user read and write it"),
        sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "let your user read and write it, and its directory"),
        sqlite3.SQLITE_IOERR: (f"the disk failed ({error})", "check the disk and its free space, and try again"),
    }
    if code >= 0 and code & 0xFF in known:
        return StoreError(path, *known[code & 0xFF])
    # Errors in a file that was well-formed when it was written.
    if isinstance(error, sqlite3.OperationalError) and str(error).startswith(("no such", "malformed")):
        return StoreError(path, f"is damaged ({error})", REPAIR)
    return StoreError(path, f"failed: {error}", "try again; `flickbook doctor` shows details")


def denied(path: Path, error: OSError) -> StoreError:
    """Converts an OSError to a readable StoreError."""
    remedy = {
        errno.EMFILE: "close programs with many open files, or raise the limit with `ulimit -n`",
        errno.ENFILE: "close programs with many open files",
        errno.ENOSPC: "free some space and try again",
        errno.EDQUOT: "free some space and try again",
        errno.EIO: "check the disk, and try again",
    }
    usual = "let your user write to it and its directory"
    return StoreError(path, f"cannot be used: {error.strerror or error}", remedy.get(error.errno or 0, usual))


class Database:
    """One connection to `path`, opened at first use, and again in a forked process and after a `repair`.

    `patience` is the timeout for locks in seconds.
    """

    def __init__(self, path: Path, patience: float = 10.0, connect: Connect = sqlite3.connect) -> None:
        self.path = Path(os.path.abspath(path))
        self.patience = patience
        self.journal = journal_of(sqlite3.sqlite_version_info)
        self.connect = connect
        self._forget()
        _LIVING.add(self)

    def _forget(self) -> None:
        """Resets the state without closing anything."""
        self._db: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._using = threading.Lock()  # guards the connection
        self._writing = threading.Lock()  # held by the thread of this process that writes
        self._queued = -1

    def forked(self) -> None:
        """Resets the state in a forked process: open files belong to the parent."""
        if self._queued >= 0:
            os.close(self._queued)  # or this process would hold the parent's lock after the parent is gone
        if self._db is not None:
            _PARENTS.append(self._db)  # closing it here would release the parent's locks
        self._forget()

    def close(self) -> None:
        with self._using:
            self._drop()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a read transaction and returns its result."""
        return self._transaction("BEGIN", work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a write transaction and returns its result; all changes are on disk then, or none if it
        raises.
        """
        with self.turn():
            return self.change(work)

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`write` for a caller that already holds the write lock."""
        return self._transaction("BEGIN IMMEDIATE", work)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work`, which manages its own transactions, and returns its result."""
        with self._using:
            try:
                return work(self._connected())
            except sqlite3.Error as error:
                self._drop()
                raise store_error(self.path, error) from error
            except UnicodeDecodeError as error:
                self._drop()
                raise StoreError(self.path, f"is damaged ({NO_TEXT})", REPAIR) from error
            except IndexError as error:  # a row lacks a column of the schema: the schema itself was changed
                self._drop()
                raise StoreError(self.path, "is damaged (its schema lacks a column)", REPAIR) from error
            except (UnicodeEncodeError, OverflowError) as error:  # half a surrogate pair, or an integer beyond 64 bits
                self._drop()
                raise RequestError("store", self.path.name, f"cannot store this: {error}", "correct it") from None
            except BaseException:
                if self._db is not None and self._db.in_transaction:
                    self._drop()
                raise

    def _transaction(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        def whole(db: sqlite3.Connection) -> T:
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
            return result

        # An error leaves the connection in a transaction; `use` closes it, and the next call opens the file again.
        return self.use(whole)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Holds the write lock. Waiting callers sleep, while SQLite's own locks would poll."""
        if not self._writing.acquire(timeout=self.patience):
            raise self._locked()
        try:
            self._queued = self._queue()
            try:
                yield
            finally:
                if self._queued >= 0:
                    handle, self._queued = self._queued, -1
                    fcntl.flock(handle, fcntl.LOCK_UN)  # a process forked meanwhile may still have it open
                    os.close(handle)
        finally:
            self._writing.release()

    def _queue(self) -> int:
        if fcntl is None:
            return -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise denied(self.path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            pass
        # flock has no timeout, and a stopped process may hold the lock: a thread waits, and is abandoned on timeout.
        waiting = _Waiting(handle)
        if waiting.done.wait(self.patience) or not waiting.abandon():
            return handle
        raise self._locked()

    def _locked(self) -> StoreError:
        return store_error(self.path, _busy())

    def _connected(self) -> sqlite3.Connection:
        try:
            found = os.stat(self.path)
        except OSError as error:
            self._drop()
            if isinstance(error, FileNotFoundError):
                raise StoreError(self.path, "is missing", "put it back, or " + REPAIR) from None
            raise denied(self.path, error) from error
        if found.st_size == 0:
            self._drop()
            raise StoreError(self.path, "is empty: its data was lost", REPAIR)
        if self._db is not None and self._identity != (found.st_dev, found.st_ino):
            self._drop()  # another file has replaced it
        if self._db is None:
            self._db = connection(self.path, self.journal, self.patience, self.connect)
            self._identity = (found.st_dev, found.st_ino)
        return self._db

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


class _Waiting:
    """A thread that waits for a lock."""

    def __init__(self, handle: int) -> None:
        self.done = threading.Event()
        self._handle, self._abandoned, self._deciding = handle, False, threading.Lock()
        threading.Thread(target=self._wait, name="store-lock", daemon=True).start()

    def _wait(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        with self._deciding:
            if self._abandoned:
                os.close(self._handle)
            self.done.set()

    def abandon(self) -> bool:
        """Abandons the thread; returns False if it got the lock just now."""
        with self._deciding:
            self._abandoned = not self.done.is_set()
            return self._abandoned


def connection(
    path: Path, journal: str, patience: float = 10.0, connect: Connect = sqlite3.connect
) -> sqlite3.Connection:
    """Opens a connection to an existing file, with the settings that keep it intact."""
    db = connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        # Damaged content may not be valid text; the seals show whether rows are intact.
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        db.row_factory = sqlite3.Row
        # SQLite itself folds case only in ASCII.
        db.create_function("folded", 1, lambda raw: raw.decode("utf-8", "replace").casefold(), deterministic=True)
        db.execute("PRAGMA cell_size_check=ON")
        db.execute("PRAGMA mmap_size=0")
        if db.execute(f"PRAGMA journal_mode={journal}").fetchone()[0] != journal:
            raise _busy()
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA journal_size_limit=1048576")
    except BaseException:
        db.close()
        raise
    return db


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


_LIVING: Final[weakref.WeakSet[Database]] = weakref.WeakSet()
_PARENTS: Final[list[sqlite3.Connection]] = []


def _after_fork() -> None:
    for each in list(_LIVING):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
