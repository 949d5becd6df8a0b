"""The record of which API keys exist for a SQLite store, so that losing the keys never opens the service.

The keys themselves are notes. The record is kept twice: as marks in the database, which are on other pages, and as
the file `flickbook.db.keys` beside it. Both name each key, and neither holds a secret.
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

#: The mark of a store for which a key was created; the marks of keys are this, a space and an id.
MARK: Final = "keys"
_HEADER: Final = (
    "# API keys that were made for this store: id, name, when it was revoked. `flickbook repair` reads it.\n"
)


@dataclass(frozen=True)
class Entry:
    """A key in the record: its name, "" if unknown, and when it was revoked, 0 for never."""

    name: str = ""
    revoked_at: float = 0.0

    def joined(self, other: Entry) -> Entry:
        """Merges two entries of the same key."""
        return Entry(self.name or other.name, self.revoked_at or other.revoked_at)


Entries = dict[str, Entry]


def joined(*records: Mapping[str, Entry]) -> Entries:
    """Merges several records of the same store."""
    found: Entries = {}
    for record in records:
        for id, entry in record.items():
            found[id] = found.get(id, Entry()).joined(entry)
    return found


def completed(record: Mapping[str, Entry], seen: Mapping[str, Entry]) -> Entries:
    """A record, and what an index or notes that may be damaged say of its keys.

    Ids that the record lacks are added only if there are more of them than keys of the record that were not seen:
    otherwise each may be the damaged id of such a key.
    """
    strange, unseen = seen.keys() - record.keys(), record.keys() - seen.keys()
    believed = seen if len(strange) > len(unseen) else {id: seen[id] for id in seen.keys() & record.keys()}
    return joined(record, believed)


def file_of(path: Path) -> Path:
    """The record file of the store in `path`."""
    return path.with_name(path.name + ".keys")


def there(path: Path) -> bool:
    """Whether the record file exists, readable or not. Raises StoreError."""
    try:
        file_of(path).lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise denied(file_of(path), error) from error
    return True


def read(path: Path) -> Entries:
    """Reads the entries of the record file without damaged lines; empty if there is no file."""
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
    """Writes the record file atomically. Raises StoreError."""
    lines = (f"{id} {entry.name or '-'} {entry.revoked_at!r}\n" for id, entry in sorted(entries.items()))
    with appearing(file_of(path)) as new:
        new.write_text(_HEADER + "".join(lines), encoding="ascii", errors="replace")


def marked(rows: Iterable[Mapping[str, Any]]) -> Entries:
    """The entries among rows of marks; other marks are skipped."""
    return {
        str(row["name"]).removeprefix(f"{MARK} "): Entry(str(row["text"]), float(row["number"]))
        for row in rows
        if str(row["name"]).startswith(f"{MARK} ")
    }


def mark(db: sqlite3.Connection, path: Path, entries: Mapping[str, Entry]) -> None:
    """Writes entries to the marks of a database, and that keys exist."""
    MARKS.put(db, path, {"name": MARK, "text": "", "number": 1.0})
    for id, entry in entries.items():
        MARKS.put(db, path, {"name": f"{MARK} {id}", "text": entry.name, "number": entry.revoked_at})


def noted(rows: Iterable[Any]) -> Entries:
    """The entries of the keys among rows of notes. From a damaged row only the id and the name are used."""
    found: Entries = {}
    for row in rows:
        if row["kind"] == KEY and str(row["id"]).isascii() and str(row["id"]).isalnum():
            entry = entry_of(row["body"])
            found[str(row["id"])] = entry if NOTES.unsealed(row) is not None else Entry(entry.name)
    return found


def entry_of(body: str) -> Entry:
    """The entry in the body of a key's note; empty if it cannot be parsed."""
    try:
        found = json.loads(body)
        return Entry(str(found["name"]), float(found["revoked_at"]))
    except (ValueError, TypeError, KeyError):
        return Entry()


def protected(db: sqlite3.Connection, path: Path) -> bool:
    """Whether a key was ever created for the store."""
    return there(path) or db.execute("SELECT 1 FROM marks WHERE name=?", (MARK,)).fetchone() is not None


def needed(db: sqlite3.Connection, path: Path) -> bool:
    """Whether requests need a key, also for a store that is older than the record."""
    return protected(db, path) or db.execute("SELECT 1 FROM notes WHERE kind=?", (KEY,)).fetchone() is not None


def adopt(db: sqlite3.Connection, path: Path) -> None:
    """Completes the record from the keys of a store that is older than the record, or that lost a part of it."""
    marks = [row for row in map(MARKS.unsealed, db.execute("SELECT * FROM marks")) if row is not None]
    notes = db.execute("SELECT * FROM notes WHERE kind=?", (KEY,)).fetchall()
    kept, beside = marked(marks), read(path)
    sound = noted(row for row in notes if NOTES.unsealed(row) is not None)
    whole = completed(joined(kept, sound, beside), noted(notes))
    if not (whole or protected(db, path)):
        return
    if whole != kept or MARK not in {row["name"] for row in marks}:
        mark(db, path, whole)
    if whole != beside or not there(path):
        write(path, whole)


def protect(db: sqlite3.Connection, path: Path, id: str, entry: Entry) -> None:
    """Adds or updates a key in the record, in the file first."""
    write(path, joined({id: entry}, read(path)))
    mark(db, path, {id: entry})


def release(db: sqlite3.Connection, path: Path) -> None:
    """Removes the record that keys were created."""
    db.execute("DELETE FROM marks WHERE name=? OR name LIKE ?", (MARK, f"{MARK} %"))
    file_of(path).unlink(missing_ok=True)
