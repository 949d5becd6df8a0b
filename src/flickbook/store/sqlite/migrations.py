"""The schema of the SQLite store as named migrations. Released ones never change; new ones are appended.

A new column must be empty ("" or 0) in existing rows, because their seals do not cover it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flickbook.errors import StoreError
from flickbook.store.sqlite.database import APPLICATION_ID


@dataclass(frozen=True)
class Migration:
    """A migration: its name, by which the database remembers it, and its statements."""

    name: str
    statements: tuple[str, ...]


_JOBS = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
    plan TEXT NOT NULL, request TEXT NOT NULL, precision TEXT NOT NULL, model_dir TEXT NOT NULL, until REAL NOT NULL,
    parent TEXT NOT NULL, leader TEXT NOT NULL, home TEXT NOT NULL, output TEXT NOT NULL, overwrite INTEGER NOT NULL,
    networks TEXT NOT NULL, thresholds TEXT NOT NULL, retries INTEGER NOT NULL, priority INTEGER NOT NULL,
    turn REAL NOT NULL, position REAL NOT NULL, attempt INTEGER NOT NULL, stalls INTEGER NOT NULL,
    reached REAL NOT NULL, worker TEXT NOT NULL, lease_until REAL NOT NULL, wanted TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL NOT NULL, finished_at REAL NOT NULL, expires_at REAL NOT NULL,
    not_before REAL NOT NULL, seconds REAL NOT NULL, error_code TEXT NOT NULL, error TEXT NOT NULL,
    result TEXT NOT NULL, key TEXT NOT NULL,
    seal TEXT NOT NULL
)"""

MIGRATIONS: Final = (
    Migration(
        "0001 jobs, notes, buckets and marks",
        (
            _JOBS,
            # Covers the whole query of a claim, so that jobs which must wait are skipped without being read.
            "CREATE INDEX jobs_queue ON jobs (priority DESC, turn, position, not_before, expires_at)"
            " WHERE state='queued' AND home='queue'",
            "CREATE UNIQUE INDEX jobs_key ON jobs (owner, key) WHERE key != ''",
            "CREATE INDEX jobs_owner ON jobs (owner)",
            "CREATE INDEX jobs_spent ON jobs (owner, state, finished_at, seconds)",
            "CREATE INDEX jobs_waiting ON jobs (owner, priority, turn) WHERE state='queued'",
            "CREATE INDEX jobs_state ON jobs (state)",
            "CREATE INDEX jobs_leader ON jobs (leader) WHERE leader != ''",
            "CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at > 0 AND state IN ('queued', 'paused')",
            "CREATE TABLE notes (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL,"
            " due REAL NOT NULL, body TEXT NOT NULL, seal TEXT NOT NULL, UNIQUE (kind, id))",
            "CREATE INDEX notes_due ON notes (kind, due) WHERE due > 0",
            "CREATE TABLE buckets (seq INTEGER PRIMARY KEY, bucket TEXT NOT NULL UNIQUE, began REAL NOT NULL,"
            " ends REAL NOT NULL, taken INTEGER NOT NULL, seal TEXT NOT NULL)",
            "CREATE TABLE marks (seq INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, text TEXT NOT NULL,"
            " number REAL NOT NULL, seal TEXT NOT NULL)",
        ),
    ),
    Migration("0002 trainings", ("ALTER TABLE jobs ADD COLUMN tuning TEXT NOT NULL DEFAULT ''",)),
    Migration("0003 remixes", ("ALTER TABLE jobs ADD COLUMN remix_of TEXT NOT NULL DEFAULT ''",)),
)


def migrate(db: sqlite3.Connection, path: Path, steps: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Applies the missing migrations, each in its own transaction; returns their names.

    Raises StoreError for a database with unknown migrations, or of another program.
    """
    refuse(db, path, steps)
    applied = []
    for step in steps:
        db.execute("BEGIN IMMEDIATE")
        # Check again under the lock: another process may have been faster.
        if step.name not in names(db):
            for statement in step.statements:
                db.execute(statement)
            db.execute("INSERT INTO migrations (name, applied_at) VALUES (?, ?)", (step.name, time.time()))
            applied.append(step.name)
        db.execute("COMMIT")
    return applied


def begin(db: sqlite3.Connection) -> None:
    """Prepares an empty database for `migrate`."""
    db.execute("PRAGMA page_size=4096")  # SQLite's default may differ, and `pages` expects this size
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at REAL NOT NULL)")


def names(db: sqlite3.Connection) -> list[str]:
    """The applied migrations in order."""
    return [str(row[0]) for row in db.execute("SELECT name FROM migrations ORDER BY rowid")]


def refuse(db: sqlite3.Connection, path: Path, steps: Sequence[Migration] = MIGRATIONS) -> None:
    """Raises StoreError for a database of another program or of a newer Flickbook."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(path, "is not a Flickbook database, or its beginning is damaged", "name another file")
    if set(names(db)) - {step.name for step in steps}:
        raise StoreError(path, "written by a newer Flickbook", "install it")
