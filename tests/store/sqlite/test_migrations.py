"""The schema: steps that are taken once, whole, in their order, and never back."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import StoreError
from flickbook.store.sqlite.checksums import JOBS, MARKS, Table
from flickbook.store.sqlite.database import APPLICATION_ID, connection
from flickbook.store.sqlite.migrations import MIGRATIONS, Migration, begin, migrate, names
from flickbook.store.sqlite.repair import repair
from flickbook.store.sqlite.store import SqliteStore

NEXT = Migration("9999 colours", ("CREATE TABLE colours (name TEXT)", "INSERT INTO colours VALUES ('red')"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "flickbook.db"
    with Blocking(SqliteStore(path)) as store:
        store.add([job()])
    return path


def test_a_migration_runs_once(path: Path) -> None:
    db = connection(path, "delete")
    assert names(db) == [each.name for each in MIGRATIONS]
    assert migrate(db, path) == []
    assert migrate(db, path, (*MIGRATIONS, NEXT)) == [NEXT.name]
    assert migrate(db, path, (*MIGRATIONS, NEXT)) == []
    assert [tuple(row) for row in db.execute("SELECT * FROM colours")] == [("red",)]
    db.close()


def test_a_newer_database_is_refused_and_unchanged(path: Path) -> None:
    db = connection(path, "delete")
    migrate(db, path, (*MIGRATIONS, NEXT))
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="written by a newer Flickbook; install it"):
        Blocking(SqliteStore(path)).open()
    with pytest.raises(StoreError, match="newer"):
        repair(path)
    assert path.read_bytes() == before


def test_a_failed_migration_leaves_no_change(path: Path) -> None:
    broken = Migration("9999 broken", ("CREATE TABLE colours (name TEXT)", "INSERT INTO nowhere VALUES (1)"))
    db = connection(path, "delete")
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, path, (*MIGRATIONS, broken))
    db.close()
    db = connection(path, "delete")
    assert names(db) == [each.name for each in MIGRATIONS]
    assert not list(db.execute("SELECT name FROM sqlite_schema WHERE name='colours'"))
    db.close()
    with Blocking(SqliteStore(path)) as store:
        assert store.counts()["queued"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_killed_migration_is_repeated(path: Path) -> None:
    rows = tuple(f"INSERT INTO colours VALUES ('{number}')" for number in range(300))
    long = Migration("9999 long", ("CREATE TABLE colours (name TEXT)", *rows))
    for wait in (0.0, 0.001, 0.003, 0.01):
        process = os.fork()
        if process == 0:
            migrate(connection(path, "delete"), path, (*MIGRATIONS, long))
            os._exit(0)
        time.sleep(wait)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        db = connection(path, "delete")
        migrate(db, path, (*MIGRATIONS, long))
        assert db.execute("SELECT count(*) FROM colours").fetchone()[0] == 300
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        db.execute("DROP TABLE colours")
        db.execute("DELETE FROM migrations WHERE name=?", (long.name,))
        db.close()


def test_released_migrations_are_unchanged() -> None:
    """A step that has been released stands in people's databases: add another one instead."""
    digests = {each.name: hashlib.sha256("\n".join(each.statements).encode()).hexdigest()[:16] for each in MIGRATIONS}
    assert digests == {
        "0001 jobs, notes, buckets and marks": "47ab19dec6a05200",
        "0002 trainings": "87256fda426444da",
        "0003 remixes": "9fc96bdea4c48e91",
    }


def test_a_database_of_the_first_release_keeps_its_jobs(tmp_path: Path) -> None:
    path, old = tmp_path / "flickbook.db", job()
    path.touch()
    db = connection(path, "delete")
    begin(db)
    migrate(db, path, MIGRATIONS[:1])
    # It knew when a job may begin, which was 0 in all of them.
    columns = [name for name in JOBS.columns if name not in ("tuning", "remix_of")]
    wider = Table("jobs", (*columns, "not_before"), reals=JOBS.reals | {"not_before"}, whole=JOBS.whole)
    wider.insert(db, old.to_row() | {"turn": 1.0, "position": 1.0, "created_at": 1.0, "not_before": 0.0}, 1)
    MARKS.insert(db, {"name": "position", "text": "", "number": 1.0})
    db.close()
    with Blocking(SqliteStore(path)) as store:
        found = store.get(old.id)
        assert found is not None and found.plan == old.plan and store.check() == []
        later = store.add([job()])
        assert store.counts()["queued"] == 2 and len(later) == 1
        claimed = store.claim("a worker", 30.0)
        assert claimed is not None and claimed.id == old.id


def test_an_empty_new_column_breaks_no_checksum(path: Path) -> None:
    step = Migration("9999 column", ("ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT ''",))
    db = connection(path, "delete")
    migrate(db, path, (*MIGRATIONS, step))
    wider = Table("jobs", (*JOBS.columns, "colour"), reals=JOBS.reals, whole=JOBS.whole)
    found = db.execute("SELECT * FROM jobs").fetchone()
    assert wider.unsealed(found) is not None
    db.close()


def test_parallel_opens_create_one_database(tmp_path: Path) -> None:
    path = tmp_path / "flickbook.db"
    stores = [Blocking(SqliteStore(path, connect=hasty)) for _ in range(6)]

    def work(store: Blocking) -> str:
        with store:
            return store.add([job()])[0].id

    with ThreadPoolExecutor(6) as threads:
        added = set(threads.map(work, stores))
    with Blocking(SqliteStore(path)) as store:
        assert store.counts()["queued"] == len(added) == 6
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    db.close()
