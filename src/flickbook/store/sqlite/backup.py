"""Protects the SQLite store from loss: atomic files, backups, checks, and quarantine of a damaged file.

A damaged file is renamed with a time stamp and never deleted: other tools may still read it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from flickbook.errors import FlickbookError, StoreError
from flickbook.store.base import Job, Note
from flickbook.store.sqlite.checksums import TABLES
from flickbook.store.sqlite.database import DAMAGE, NO_TEXT, REPAIR, Connect, Database, connection, denied, store_error
from flickbook.store.sqlite.migrations import begin, migrate

#: Files that SQLite writes next to a database: its journals may hold the only intact copy of a page.
BESIDE: Final = ("-journal", "-wal", "-shm")


def backup_of(path: Path) -> Path:
    """Path of the last backup of the store in `path`."""
    return path.with_name(path.name + ".backup")


def age(path: Path, now: float) -> float:
    """Seconds since a file was modified; infinite if it is missing or its time is in the future."""
    try:
        seconds = now - path.stat().st_mtime
    except OSError:
        return float("inf")
    return seconds if seconds >= 0 else float("inf")


def refuse_remains(path: Path) -> None:
    """Raises StoreError if a missing database has left other files: a new one would hide the loss."""
    for trace in (backup_of(path), *(Path(f"{path}{end}") for end in BESIDE[:2])):
        if trace.exists():
            raise StoreError(path, f"is missing, but {trace.name} exists", f"put it back, or {REPAIR}")


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, readable only by its owner, that replaces `path` atomically at the end."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield new
        with open(new, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(new, path)
        flushed(path.parent)
    except OSError as error:
        raise denied(path, error) from error
    finally:
        for end in ("", *BESIDE):
            Path(f"{new}{end}").unlink(missing_ok=True)


def flushed(directory: Path) -> None:
    """Flushes renames in a directory to disk, if the system supports it."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def opened(path: Path, connect: Connect = sqlite3.connect) -> Iterator[sqlite3.Connection]:
    """A connection to a file that no other process uses."""
    db = connection(path, "delete", connect=connect)
    try:
        yield db
    finally:
        db.close()


def create(
    database: Database,
    fill: Callable[[sqlite3.Connection], None] = lambda db: None,
    last: Callable[[], None] = lambda: None,
) -> None:
    """Creates the database and calls `fill` before it becomes visible, so that a partial one is never seen. `last` is
    called just before that.
    """
    try:
        with appearing(database.path) as new:
            with opened(new, database.connect) as db:
                begin(db)
                migrate(db, database.path)
                db.execute("BEGIN IMMEDIATE")
                fill(db)
                db.execute("COMMIT")
            last()
    except sqlite3.Error as error:
        raise store_error(database.path, error) from error


def copy(db: sqlite3.Connection, path: Path) -> None:
    """Writes a copy of a database to `path`. Raises StoreError for a damaged one, and then keeps the previous copy."""
    with appearing(path) as new, opened(new) as target:
        db.backup(target)
        target.execute("PRAGMA journal_mode=delete")
        wrong = faults(target)
        if wrong:
            raise StoreError(db.execute("PRAGMA database_list").fetchone()[2], f"is damaged ({wrong[0]})", REPAIR)


def faults(db: sqlite3.Connection) -> list[str]:
    """The errors of a database, one line each: structure, seals, and rows that are not valid jobs or notes."""
    lines = []
    try:
        lines += [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        for table in TABLES:
            for found in db.execute(f"SELECT * FROM {table.name}"):
                name = " ".join(str(found[each]) for each in table.columns[: table.keys])
                row = table.unsealed(found)
                if row is None:
                    lines.append(f"{table.name} {name} is damaged")
                    continue
                try:
                    if table.name == "jobs":
                        Job.from_row(row)
                    elif table.name == "notes":
                        Note.of(**row)
                except (FlickbookError, ValueError, TypeError) as error:
                    lines.append(f"{table.name} {name} does not parse: {error}")
    except UnicodeDecodeError:
        lines.append(NO_TEXT)
    except DAMAGE as error:
        lines.append(str(error))
    return lines


def quarantine(path: Path) -> Path:
    """Renames a database and its journals with a time stamp; returns the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (path.with_name(f"{path.name}.damaged-{stamp}{end}") for end in ("", *(f"-{n}" for n in range(2, 100))))
    aside = next(name for name in names if not name.exists())
    try:
        os.rename(path, aside)
        for end in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{end}", f"{aside}{end}")
        flushed(path.parent)
    except OSError as error:
        raise denied(path, error) from error
    return aside
