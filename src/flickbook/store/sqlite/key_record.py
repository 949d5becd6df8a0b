"""The record of which API keys were made for a SQLite store, so that losing the keys never opens the service.

The keys themselves are notes. The record is kept twice beside them: as marks in the database, which lie on other pages,
and as the file `flickbook.db.keys` beside it. Both name each key, and neither holds a secret.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flickbook.store.base import KEY
from flickbook.store.sqlite.backup import appearing
from flickbook.store.sqlite.checksums import MARKS, NOTES
from flickbook.store.sqlite.database import denied

#: The mark of a store for which a key was made; those of the keys are this, a space and an id.
MARK: Final = "keys"
_HEADER: Final = (
    "# API keys that were made for this store: id, name, when it was revoked. `flickbook repair` reads it.\n"
)


@dataclass(frozen=True)
class Entry:
    """What the record knows of a key: its name, "" if unknown, and when it was revoked, 0 for never."""

    name: str = ""
    revoked_at: float = 0.0

    def joined(self, other: Entry) -> Entry:
        """What the two know together."""
        return Entry(self.name or other.name, self.revoked_at or other.revoked_at)


Entries = dict[str, Entry]


def joined(*records: Mapping[str, Entry]) -> Entries:
    """The entries of several records of the same store."""
    found: Entries = {}
    for record in records:
        for id, entry in record.items():
            found[id] = found.get(id, Entry()).joined(entry)
    return found


def file_of(path: Path) -> Path:
    """The file beside the store in `path`."""
    return path.with_name(path.name + ".keys")


def there(path: Path) -> bool:
    """Whether the store in `path` has the file, readable or not. Raises StoreError."""
    try:
        file_of(path).lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise denied(file_of(path), error) from error
    return True


def read(path: Path) -> Entries:
    """The entries of the file, but for lines that are damaged; none where there is no file."""
    try:
        lines = file_of(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    found: Entries = {}
    for line in lines:
        words = line.split(" ")
        if len(words) == 3 and words[0].isalnum():
            found[words[0]] = Entry(words[1] if words[1] != "-" else "", _seconds(words[2]))
    return found


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0


def write(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the file, whole or not at all. Raises StoreError."""
    lines = (f"{id} {entry.name or '-'} {entry.revoked_at!r}\n" for id, entry in sorted(entries.items()))
    with appearing(file_of(path)) as new:
        new.write_text(_HEADER + "".join(lines), encoding="ascii", errors="replace")


def marked(rows: Iterable[Mapping[str, Any]]) -> Entries:
    """The entries of the rows of marks; other marks are passed over."""
    return {
        str(row["name"]).removeprefix(f"{MARK} "): Entry(str(row["text"]), float(row["number"]))
        for row in rows
        if str(row["name"]).startswith(f"{MARK} ")
    }


def mark(db: sqlite3.Connection, path: Path, entries: Mapping[str, Entry]) -> None:
    """Put entries, and that there are any, among the marks of a database."""
    MARKS.put(db, path, {"name": MARK, "text": "", "number": 1.0})
    for id, entry in entries.items():
        MARKS.put(db, path, {"name": f"{MARK} {id}", "text": entry.name, "number": entry.revoked_at})


def noted(rows: Iterable[Any]) -> Entries:
    """The entries of the rows of notes that are keys. Of a damaged row only the id and the name are taken."""
    found: Entries = {}
    for row in rows:
        if row["kind"] == KEY and str(row["id"]).isascii() and str(row["id"]).isalnum():
            entry = entry_of(row["body"])
            found[str(row["id"])] = entry if NOTES.unsealed(row) is not None else Entry(entry.name)
    return found


def entry_of(body: str) -> Entry:
    """What the body of a key's note says; nothing where it cannot be read."""
    try:
        found = json.loads(body)
        return Entry(str(found["name"]), float(found["revoked_at"]))
    except (ValueError, TypeError, KeyError):
        return Entry()


def protected(db: sqlite3.Connection, path: Path) -> bool:
    """Whether a key was ever made for the store."""
    return there(path) or db.execute("SELECT 1 FROM marks WHERE name=?", (MARK,)).fetchone() is not None


def needed(db: sqlite3.Connection, path: Path) -> bool:
    """Whether requests need a key; also for a store of before there was a record."""
    return protected(db, path) or db.execute("SELECT 1 FROM notes WHERE kind=?", (KEY,)).fetchone() is not None


def adopt(db: sqlite3.Connection, path: Path) -> None:
    """Complete the record from the keys of a store that was written before there was one, or that lost a part of it."""
    marks = [row for row in map(MARKS.unsealed, db.execute("SELECT * FROM marks")) if row is not None]
    kept, beside = marked(marks), read(path)
    whole = joined(noted(db.execute("SELECT * FROM notes WHERE kind=?", (KEY,))), kept, beside)
    if not (whole or protected(db, path)):
        return
    if whole != kept or MARK not in {row["name"] for row in marks}:
        mark(db, path, whole)
    if whole != beside or not there(path):
        write(path, whole)


def protect(db: sqlite3.Connection, path: Path, id: str, entry: Entry) -> None:
    """Add a key to the record, or what is new about it: to the file first."""
    write(path, joined({id: entry}, read(path)))
    mark(db, path, {id: entry})


def release(db: sqlite3.Connection, path: Path) -> None:
    """Forget that keys were ever made."""
    db.execute("DELETE FROM marks WHERE name=? OR name LIKE ?", (MARK, f"{MARK} %"))
    file_of(path).unlink(missing_ok=True)
