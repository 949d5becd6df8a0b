"""Rebuilds a damaged SQLite store from all that can still be read."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flickbook.errors import StoreError
from flickbook.store.base import DONE, KEY, SESSION
from flickbook.store.sqlite import key_record, pages
from flickbook.store.sqlite.backup import BESIDE, backup_of, create, faults, opened, quarantine
from flickbook.store.sqlite.checksums import JOBS, MARKS, NOTES, TABLES, Table
from flickbook.store.sqlite.database import APPLICATION_ID, DAMAGE, Database
from flickbook.store.sqlite.migrations import MIGRATIONS, names, refuse

#: More claims than a job can have had since a backup, so that no lease token is issued twice.
_TOKENS: Final = 1000
#: Failed queries after which SQLite's queries of a table stop, and its rows are searched page by page.
_FAILURES: Final = 5000

Key = tuple[object, ...]


@dataclass
class Found:
    """The rows of one file, by table and key, with their `seq`.

    `whole` are the complete tables, `indexed` those whose index could be read, and `keys` the API keys that the file
    had, including lost ones.
    """

    rows: dict[str, dict[Key, dict[str, Any]]] = field(default_factory=lambda: {table.name: {} for table in TABLES})
    whole: set[str] = field(default_factory=set)
    indexed: set[str] = field(default_factory=set)
    keys: key_record.Entries = field(default_factory=dict)

    def keep(self, table: Table, row: Mapping[str, Any]) -> bool:
        """Adds a row unless its key exists; of two versions of a job, keeps the one with more claims."""
        rows, name = self.rows[table.name], tuple(row[each] for each in table.columns[: table.keys])
        if name in rows and (table is not JOBS or rows[name]["attempt"] >= row["attempt"]):
            return False
        rows[name] = {each: row[each] for each in (*table.columns, "seq")}
        return True


@dataclass(frozen=True)
class Repaired:
    """The result of a repair: where the damaged file is now, and how many rows of each table came from where.

    `salvaged` were read from the damaged file, `scattered` were found on detached pages of it, and `restored` are
    from the last backup. A `sound` store is not changed. `quarantined` is None for a sound store and for a missing
    file. `lost_keys` are the names of API keys that could not be saved, by id; "" is an unknown name. `closed` means
    that requests need a key from now on: one was created, or the damaged file cannot prove that none was.
    """

    quarantined: Path | None
    sound: bool = False
    salvaged: dict[str, int] = field(default_factory=dict)
    scattered: dict[str, int] = field(default_factory=dict)
    restored: dict[str, int] = field(default_factory=dict)
    lost_keys: dict[str, str] = field(default_factory=dict)
    closed: bool = False


def repair(path: Path) -> Repaired:
    """Replaces a damaged store by a new one with every row that the old one or its backup still has.

    The damaged file is renamed; nothing is deleted. Raises StoreError if nothing can be read, or for a newer
    Flickbook's store.
    """
    database = Database(path)
    path = database.path
    with database.turn():
        there = path.exists()
        if there and _sound(database):
            return Repaired(None, sound=True, closed=database.use(lambda db: key_record.needed(db, path)))
        database.close()
        source = path if there else max(path.parent.glob(f"{path.name}.damaged-*Z"), default=None)
        read = _read(source, backup_of(path)) if source is not None else (Found(), Found())
        backup = _read(backup_of(path), None)[0] if backup_of(path).exists() else Found()
        if not any(any(found.rows.values()) for found in (*read, backup)) and (source is None or _foreign(source)):
            raise StoreError(path, "contains no readable Flickbook data", "move it away to start with an empty store")
        salvaged, scattered, restored = _merged(*read, backup)
        keys, lost = _keys(path, read[0])
        closed = bool(keys or lost or _protected(path, read[0]))
        moved: list[Path] = []

        def fill(db: sqlite3.Connection) -> None:
            _write(db, read[0])
            if closed:
                key_record.mark(db, path, keys)

        create(database, fill, lambda: moved.append(quarantine(path)) if there else None)
        if closed:
            key_record.write(path, keys)
    names = {id: entry.name for id, entry in sorted(lost.items())}
    aside = moved[0] if moved else source
    return Repaired(aside, False, salvaged, scattered, restored, names, closed)


def _keys(path: Path, found: Found) -> tuple[key_record.Entries, key_record.Entries]:
    """The API keys that were saved, and those that were lost. A key that was restored from before it was revoked is
    revoked again.
    """
    rows = {name[1]: row for name, row in found.rows[NOTES.name].items() if name[0] == KEY}
    notes = {str(id): key_record.entry_of(row["body"]) for id, row in rows.items()}
    record = key_record.joined(key_record.marked(found.rows[MARKS.name].values()), key_record.read(path))
    known = key_record.joined(notes, key_record.completed(record, found.keys))
    for id, entry in known.items():
        if id in rows and entry.revoked_at and not notes.get(id, entry).revoked_at:
            rows[id]["body"] = json.dumps(json.loads(rows[id]["body"]) | {"revoked_at": entry.revoked_at})
    saved = {id: entry for id, entry in known.items() if id in rows}
    return saved, {id: entry for id, entry in known.items() if id not in rows}


def _protected(path: Path, found: Found) -> bool:
    """Whether keys were created for the store, or may have been: without the index it is unknown which notes it had."""
    return key_record.there(path) or (key_record.MARK,) in found.rows[MARKS.name] or NOTES.name not in found.indexed


def _sound(database: Database) -> bool:
    """Whether a store is intact. Raises StoreError for a store of another program or of a newer Flickbook."""

    def look(db: sqlite3.Connection) -> bool:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID and "jobs" in tables:
            return False
        newer = "migrations" in tables and set(names(db)) - {step.name for step in MIGRATIONS}
        if newer or (tables and "jobs" not in tables):
            refuse(db, database.path)
        return not faults(db)

    try:
        return database.use(look)
    except StoreError as error:
        if isinstance(error.__cause__, (sqlite3.Error, *DAMAGE)) or "empty" in error.reason:
            return False
        raise


def _foreign(path: Path) -> bool:
    """Whether a file was never a SQLite file. An empty file may have been one."""
    with open(path, "rb") as file:
        beginning = file.read(16)
    return bool(beginning) and beginning != b"SQLite format 3\x00"


def _read(path: Path, sibling: Path | None) -> tuple[Found, Found]:
    """What SQLite reads of a file, and what else its pages hold. Reads a copy, because SQLite changes files that it
    opens.

    If the first page is damaged, it is replaced by that of `sibling`, a backup, or of a new store.
    """
    found, scattered = Found(), Found()
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as place:
        fresh = Database(Path(place) / "fresh")
        create(fresh)
        with opened(fresh.path) as db:
            columns = {
                table.name: [row["name"] for row in db.execute(f"PRAGMA table_info({table.name})")] for table in TABLES
            }
        for first in (None, sibling, fresh.path):
            copied = Path(place) / "copy"
            for end in ("", *BESIDE):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{end}", f"{copied}{end}")
            if first is not None and first.exists():
                with open(copied, "rb+") as file:
                    file.write(first.read_bytes()[:4096])
            _ask(copied, found)
            for table, row in pages.rows(copied, columns):
                if table.name not in found.whole:
                    scattered.keep(table, row)
            if any(found.rows.values()):
                break
    return found, scattered


def _ask(path: Path, found: Found) -> None:
    """Reads every row that SQLite can read."""
    try:
        with opened(path) as db:
            for table in TABLES:
                if _ask_table(db, table, found):
                    found.whole.add(table.name)
    except DAMAGE:
        return


def _ask_table(db: sqlite3.Connection, table: Table, found: Found) -> bool:
    """Reads a table around unreadable rows; returns whether all rows that its index names were found."""
    try:
        last = db.execute(f"SELECT max(seq) FROM {table.name}").fetchone()[0] or 0
        keys = ", ".join(table.columns[: table.keys])
        by_name = f"SELECT {keys} FROM {table.name} INDEXED BY sqlite_autoindex_{table.name}_1"
        expected = {tuple(row) for row in db.execute(by_name)}
        found.indexed.add(table.name)
        if table is NOTES:
            found.keys.update({str(id): key_record.Entry() for kind, id in expected if kind == KEY})
    except DAMAGE:
        last, expected = 2**20, None
    ranges, failures = [(0, last)], 0
    while ranges and failures < _FAILURES:
        low, high = ranges.pop()
        try:
            for row in db.execute(f"SELECT * FROM {table.name} WHERE seq BETWEEN ? AND ? ORDER BY seq", (low, high)):
                low = max(low, row["seq"] + 1)
                if table.unsealed(row) is not None:
                    found.keep(table, {name: row[name] for name in row.keys()})  # noqa: SIM118
                elif table is NOTES:
                    names = key_record.noted([row]).items()
                    here = {id: entry for id, entry in names if expected is None or id in found.keys}
                    found.keys = key_record.joined(found.keys, here)
        except DAMAGE:
            failures += 1
            middle = (low + high) // 2
            if low < high:
                ranges += [(middle + 1, high), (low, middle)]
    return failures == 0 and expected == found.rows[table.name].keys()


def _merged(found: Found, scattered: Found, backup: Found) -> list[dict[str, int]]:
    """Adds rows that only the pages or the backup have; returns how many rows of each table came from where."""
    counts = [{name: len(rows) for name, rows in found.rows.items()}]
    for more in (scattered, backup):
        added = dict.fromkeys(found.rows, 0)
        for table in TABLES:
            if table.name in found.whole:
                continue  # the table is complete: missing rows were deleted
            for name, row in more.rows[table.name].items():
                if name in found.rows[table.name]:
                    continue
                if table is NOTES and name[0] == SESSION:
                    continue  # the session may have ended since
                if table is JOBS and row["state"] not in DONE:
                    row = row | {"attempt": row["attempt"] + _TOKENS}
                found.keep(table, row)
                added[table.name] += 1
        counts.append(added)
    return counts


def _write(db: sqlite3.Connection, found: Found) -> None:
    """Writes all found rows to a new store."""
    last = max((row["seq"] for rows in found.rows.values() for row in rows.values()), default=0)
    for table in TABLES:
        taken: set[int] = set()
        for row in sorted(found.rows[table.name].values(), key=lambda row: row["seq"]):
            if table is MARKS and str(row["name"]).partition(" ")[0] == key_record.MARK:
                continue  # written again, for the keys that were saved
            seq = row["seq"]
            if seq in taken:
                last = seq = last + 1
            taken.add(seq)
            try:
                table.insert(db, row, seq)
            except sqlite3.IntegrityError:  # two jobs with one Idempotency-Key, from two sources
                table.insert(db, row | {"key": ""}, seq)
    position = max((row["position"] for row in found.rows["jobs"].values()), default=0.0)
    MARKS.put(db, Path(), {"name": "position", "text": "", "number": max(float(last), position)})
