"""Tables whose rows carry a checksum (seal): SQLite itself does not detect a flipped bit in a row."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flickbook.errors import StoreError
from flickbook.store.base import Job, Row
from flickbook.store.sqlite.database import REPAIR


def seal(row: Mapping[str, Any], reals: Collection[str] = (), whole: Collection[str] = ()) -> str:
    """64 bits of BLAKE2 over a row and the types of its values, as 16 hexadecimal digits.

    Empty values are skipped, so that columns can be added.
    """
    empty = {**dict.fromkeys(row, (str, "")), **dict.fromkeys(reals, (float, 0.0)), **dict.fromkeys(whole, (int, 0))}
    filled = {name: value for name, value in row.items() if (type(value), value) != empty[name]}
    text = json.dumps(filled, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Table:
    """A table: its columns without `seq`, the row number, and `seal`; the first `keys` columns are its key.

    `reals` hold floats and `whole` integers, all others strings. `unused` are obsolete columns, 0 in every row.
    """

    name: str
    columns: tuple[str, ...]
    keys: int = 1
    reals: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()

    def seal(self, row: Mapping[str, Any]) -> str:
        return seal(row, self.reals, self.whole)

    def unsealed(self, found: Mapping[str, Any] | sqlite3.Row) -> Row | None:
        """The row that was read; None if its seal does not match."""
        row = {name: found[name] for name in self.columns}
        return row if self.seal(row) == found["seal"] else None

    def row(self, path: Path, found: sqlite3.Row) -> Row:
        """The row that was read. Raises StoreError if its seal does not match."""
        row = self.unsealed(found)
        if row is None:
            name = " ".join(str(found[each]) for each in self.columns[: self.keys])
            raise StoreError(path, f"{self.name} {name} is damaged", REPAIR)
        return row

    def insert(self, db: sqlite3.Connection, row: Mapping[str, Any], seq: int | None = None) -> None:
        """Inserts a row. Raises sqlite3.IntegrityError if its key exists."""
        values = {name: row[name] for name in self.columns}
        whole = {"seq": seq, **values, **dict.fromkeys(self.unused, 0.0), "seal": self.seal(values)}
        names, places = ", ".join(whole), ", ".join("?" * len(whole))
        db.execute(f"INSERT INTO {self.name} ({names}) VALUES ({places})", tuple(whole.values()))

    def update(self, db: sqlite3.Connection, row: Mapping[str, Any], changes: Mapping[str, Any]) -> Row:
        """Updates some columns of a row that was read; returns the whole row."""
        new = {**row, **changes}
        changed = {name: value for name, value in changes.items() if row[name] != value}
        if changed:
            sets = ", ".join(f"{name}=?" for name in (*changed, "seal"))
            where = " AND ".join(f"{name}=?" for name in self.columns[: self.keys])
            key = [row[name] for name in self.columns[: self.keys]]
            db.execute(f"UPDATE {self.name} SET {sets} WHERE {where}", (*changed.values(), self.seal(new), *key))
        return new

    def put(self, db: sqlite3.Connection, path: Path, row: Mapping[str, Any]) -> None:
        """Inserts a row, or replaces the one with its key."""
        found = self.named(db, path, *(row[name] for name in self.columns[: self.keys]))
        if found is None:
            self.insert(db, row)
        else:
            self.update(db, found, row)

    def put_new(self, db: sqlite3.Connection, path: Path, row: Mapping[str, Any]) -> Row | None:
        """Inserts a row if its key does not exist; returns the existing row."""
        found = self.named(db, path, *(row[name] for name in self.columns[: self.keys]))
        if found is None:
            self.insert(db, row)
        return found

    def named(self, db: sqlite3.Connection, path: Path, *key: object) -> Row | None:
        """Finds a row by key. Raises StoreError if it is damaged, or if the index leads to another row."""
        names = self.columns[: self.keys]
        where = " AND ".join(f"{name}=?" for name in names)
        found = db.execute(f"SELECT * FROM {self.name} WHERE {where}", key).fetchone()
        if found is None:
            return None
        row = self.row(path, found)
        if tuple(row[name] for name in names) != key:
            raise StoreError(path, f"the index of {self.name} is damaged", REPAIR)
        return row


def _of_kind(kind: type) -> frozenset[str]:
    """The fields of a Job whose values have this type."""
    return frozenset(name for name, field in Job.model_fields.items() if type(field.default) is kind)


JOBS: Final = Table("jobs", tuple(Job.model_fields), reals=_of_kind(float), whole=_of_kind(int), unused=("not_before",))
NOTES: Final = Table("notes", ("kind", "id", "owner", "due", "body"), keys=2, reals=frozenset({"due"}))
BUCKETS: Final = Table(
    "buckets", ("bucket", "began", "ends", "taken"), reals=frozenset({"began", "ends"}), whole=frozenset({"taken"})
)
#: State of the store itself: secrets, its clock for each boot, and the progress of the queue.
MARKS: Final = Table("marks", ("name", "text", "number"), reals=frozenset({"number"}))
TABLES: Final = (JOBS, NOTES, BUCKETS, MARKS)


def drawn(db: sqlite3.Connection, path: Path, name: str) -> str:
    """The secret of this name, 64 hexadecimal digits, created at first use."""
    mark = MARKS.named(db, path, f"secret {name}")
    if mark is None:
        mark = {"name": f"secret {name}", "text": secrets.token_hex(32), "number": 0.0}
        MARKS.insert(db, mark)
    return str(mark["text"])
