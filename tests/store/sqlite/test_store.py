"""What is SQLite's own: clocks, processes, locks, and errors in plain words."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import RequestError, StoreError
from flickbook.store.base import Query
from flickbook.store.sqlite.clock import Clocks
from flickbook.store.sqlite.database import connection, journal_of
from flickbook.store.sqlite.repair import repair
from flickbook.store.sqlite.store import SqliteStore

fcntl = pytest.importorskip("fcntl") if sys.platform != "win32" else None
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / "flickbook.db"


@contextmanager
def opened(path: Path, **keywords: Any) -> Iterator[Blocking]:
    with Blocking(SqliteStore(path, **keywords)) as store:
        yield store


class Time:
    """Clocks that stand still until they are set."""

    def __init__(self) -> None:
        self.wall, self.steady, self.boot = 1e9, 500.0, "first"

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.steady, lambda: self.boot)


def children(count: int, work: Callable[[int], None]) -> None:
    """Run `work` in processes that are forked from this one; all must end well."""
    processes = []
    for number in range(count):
        process = os.fork()
        if process == 0:
            status = 1
            try:
                work(number)
                status = 0
            finally:
                os._exit(status)
        processes.append(process)
    assert [os.waitpid(each, 0)[1] for each in processes] == [0] * count


@pytest.mark.parametrize(
    ("version", "journal"),
    [
        ((3, 35, 0), "persist"),
        ((3, 40, 1), "persist"),
        ((3, 51, 2), "persist"),
        ((3, 51, 3), "wal"),
        ((3, 52, 0), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_the_journal_mode_is_safe_for_the_sqlite_version(version: tuple[int, int, int], journal: str) -> None:
    assert journal_of(version) == journal


@pytest.mark.parametrize("journal", ["persist", "wal"])
def test_every_commit_reaches_the_disk(path: Path, journal: str) -> None:
    with opened(path):
        pass
    db = connection(path, journal)
    pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    mapped = db.execute("PRAGMA mmap_size").fetchone()
    db.close()
    assert pragmas == {"journal_mode": journal, "synchronous": 2}
    assert mapped is None or mapped[0] == 0


def test_the_title_names_version_and_journal(path: Path) -> None:
    word = {"persist": "rollback journal", "wal": "write-ahead log"}[journal_of(sqlite3.sqlite_version_info)]
    assert SqliteStore(path).title == f"SQLite {sqlite3.sqlite_version}, {word}"


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    with opened(path) as store:
        store.add([job()])
        modes = {each.name: each.stat().st_mode & 0o077 for each in path.parent.iterdir()}
    assert len(modes) >= 3 and set(modes.values()) == {0}


def test_the_clock_of_leases_does_not_jump_with_the_wall_clock(path: Path) -> None:
    at = Time()
    with opened(path, clocks=at.clocks()) as store:
        assert store.now() == 1e9
        store.add([job()])
        running = store.claim("one", 30.0)
        for jump in (3600.0, -7200.0):
            at.wall += jump
            assert store.now() == 1e9 and store.lapsed() == []
        at.steady += 29.0
        with opened(path, clocks=at.clocks()) as other:
            assert other.now() == 1e9 + 29 and other.lapsed() == []
            at.steady += 1.0
            assert other.lapsed() == store.lapsed() == [running]


def test_a_lease_from_before_a_reboot_has_expired(path: Path) -> None:
    at = Time()
    with opened(path, clocks=at.clocks()) as store:
        store.add([job(), job()])
        store.claim("one", 30.0)
        last = store.claim("one", 300.0)
        store.take("a", 5, 5, 60.0)
    assert last is not None
    # The machine starts again, with a wall clock that is a year behind.
    at.boot, at.steady, at.wall = "second", 3.0, at.wall - 365 * 86400
    with opened(path, clocks=at.clocks()) as store:
        assert store.now() == last.lease_until + 1
        assert len(store.lapsed()) == 2
        assert store.take("a", 5, 5, 60.0)[0] == 5
    at.boot = "first"
    with opened(path, clocks=at.clocks()) as store:
        assert store.now() == 1e9 - 497


def test_a_cancelled_backlog_does_not_delay_its_owner(path: Path) -> None:
    with opened(path, connect=hasty) as store:
        for each in store.add([job(owner="a") for _ in range(50)]):
            store.change(each.id, ("queued",), {"state": "cancelled"})
        others = store.add([job(owner="b") for _ in range(3)])
        again = store.add([job(owner="a")])[0]
        assert [each.id for each in store.find(Query(states=("queued",), order="queue"))] == [
            others[0].id,
            again.id,
            *(each.id for each in others[1:]),
        ]


@forks
def test_a_forked_process_opens_its_own_connection(path: Path) -> None:
    with opened(path) as store:
        first = store.add([job()])[0]

        def child(number: int) -> None:
            assert store.get(first.id) == first
            assert store.add([job(owner="child")])[0].owner == "child"

        children(3, child)
        assert store.counts("child")["queued"] == 3
        assert store.check() == []
        store.add([job()])


@forks
def test_a_fork_during_a_write_keeps_no_lock(path: Path) -> None:
    store = SqliteStore(path, patience=2.0)
    with Blocking(store) as before:
        before.add([job()])
        read, write = os.pipe()
        with store._db.turn():
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)  # until the parent is done
                os._exit(0)
        os.close(read)
        with opened(path, patience=2.0) as other:
            assert other.add([job()])
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0


@forks
@pytest.mark.parametrize("jobs", [1000, pytest.param(10_000, marks=pytest.mark.trial)])
@pytest.mark.slow
def test_sixteen_processes_claim_each_job_once(path: Path, jobs: int, tmp_path: Path) -> None:
    with opened(path, patience=60.0, connect=hasty) as store:
        added = [each.id for each in store.add([job(owner=f"o{i % 5}") for i in range(jobs)])]

    def child(number: int) -> None:
        with opened(path, patience=60.0, connect=hasty) as mine, open(tmp_path / f"claimed-{number}", "w") as file:
            while (found := mine.claim(f"w{number}", 60.0)) is not None:
                assert found.attempt == 1
                file.write(found.id + "\n")

    children(16, child)
    claimed = [line for number in range(16) for line in (tmp_path / f"claimed-{number}").read_text().split()]
    assert sorted(claimed) == sorted(added)
    with opened(path) as store:
        assert store.counts()["running"] == jobs and store.check() == []


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        work()
    return str(caught.value)


def test_a_full_disk_is_reported_and_changes_nothing(path: Path) -> None:
    with opened(path) as store:
        first = store.add([job()])[0]
    tight = False

    def connect(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        db = sqlite3.connect(*arguments, **keywords)
        if tight:
            db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
        return db

    tight = True
    with opened(path, connect=connect) as store:
        text = refusal(lambda: store.add([job() for _ in range(50)]))
        assert "full" in text and "free some space" in text and str(path) in text
        assert store.find(Query()) == [first]
        tight = False
        store.close()
        store.open()
        assert len(store.add([job() for _ in range(50)])) == 50


def test_a_lock_held_too_long_is_reported(path: Path) -> None:
    with opened(path, patience=0.2) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert "locked it for too long" in refusal(lambda: store.add([job()]))
        assert "locked it for too long" in refusal(store.counts)
        other.execute("ROLLBACK")
        other.close()
        assert store.add([job()])


@forks
def test_waiting_for_a_stopped_process_is_bounded(path: Path) -> None:
    with opened(path, patience=0.2) as store:
        handle = os.open(f"{path}-lock", os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "locked it for too long" in refusal(lambda: store.add([job()]))
        assert store.counts()["queued"] == 0  # who only reads need not wait
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)
        for _ in range(20):
            try:
                assert store.add([job()])
                break
            except StoreError:  # the thread that was left behind may have it for an instant
                time.sleep(0.05)
        assert store.counts()["queued"] == 1


def test_a_read_only_database_is_reported(path: Path) -> None:
    with opened(path):
        pass

    def connect(name: str, **keywords: Any) -> sqlite3.Connection:
        db = sqlite3.connect(name, **keywords)
        db.execute("PRAGMA query_only=ON")
        return db

    assert "is read-only" in refusal(Blocking(SqliteStore(path, connect=connect)).open)


def test_a_file_that_is_not_a_store_is_refused(path: Path, tmp_path: Path) -> None:
    text, empty, other = (tmp_path / name for name in ("text.db", "empty.db", "other.db"))
    text.write_text("these are my notes, not a database, and nobody may write into them\n" * 50)
    empty.touch()
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE jobs (id)")
    db.commit()
    db.close()
    before = {each: each.read_bytes() for each in (text, empty, other)}
    assert "not an SQLite database" in refusal(Blocking(SqliteStore(text)).open)
    assert "empty" in refusal(Blocking(SqliteStore(empty)).open)
    assert "not a Flickbook database" in refusal(Blocking(SqliteStore(other)).open)
    assert {each: each.read_bytes() for each in before} == before
    (tmp_path / "file").touch()
    assert "let your user write" in refusal(Blocking(SqliteStore(tmp_path / "file" / "x.db")).open)


def test_values_that_sqlite_cannot_store_are_refused(path: Path) -> None:
    with opened(path) as store:
        asks: list[Callable[[], object]] = [
            lambda: store.get("\ud800"),
            lambda: store.note("key", "\ud800"),
            lambda: store.take("\ud800", 1, 1, 1.0),
            lambda: store.find(Query(limit=10**30)),
            lambda: store.add([job(retries=2**63)]),
        ]
        for ask in asks:
            with pytest.raises(RequestError):
                ask()
        assert store.add([job()]) == store.find(Query())


def test_the_write_ahead_log_mode_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What newer versions of SQLite use; one process alone is safe with it in this one, too."""
    monkeypatch.setattr("flickbook.store.sqlite.database.journal_of", lambda version: "wal")
    with opened(path) as store:
        kept = store.add([job() for _ in range(5)])
        assert "write-ahead log" in store.title and Path(f"{path}-wal").exists()
        with opened(path) as other:
            assert other.claim("one", 30.0) is not None
            assert store.counts()["running"] == 1 and store.check() == []
        db = sqlite3.connect(path)
        db.execute("UPDATE jobs SET error='x' WHERE id=?", (kept[4].id,))
        db.commit()
        db.close()
        done = repair(path)
        assert done.quarantined is not None and done.salvaged["jobs"] == 4
        assert store.counts()["running"] == 1 and store.check() == []
    monkeypatch.undo()
    with opened(path) as store:
        assert len(store.find(Query())) == 4 and store.check() == []


def test_a_deleted_store_is_not_recreated(path: Path) -> None:
    with opened(path) as store:
        store.add([job()])
        path.rename(path.with_name("away"))
        assert "is missing" in refusal(lambda: store.add([job()]))
        assert "is missing" in refusal(store.counts)
    assert "is missing" in refusal(Blocking(SqliteStore(path)).open)
    path.with_name("away").rename(path)
    with opened(path) as store:
        assert store.counts()["queued"] == 1
