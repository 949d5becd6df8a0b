"""The face of a store for code that waits."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import StoreError
from flickbook.store.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flickbook.db"


def test_threads_share_one_store(path: Path) -> None:
    with Blocking(SqliteStore(path, connect=hasty)) as store:
        assert store.title.startswith("SQLite")
        with ThreadPoolExecutor(8) as threads:
            added = list(threads.map(lambda _: store.add([job()])[0].id, range(40)))
            claimed = list(threads.map(lambda _: store.claim("one", 60.0), range(40)))
        assert {each.id for each in claimed if each is not None} == set(added)


def test_errors_are_raised_in_the_calling_thread(path: Path) -> None:
    path.write_text("no database\n" * 500)
    store = Blocking(SqliteStore(path))
    with pytest.raises(StoreError):
        store.open()
    store.close()


def test_its_thread_is_a_daemon_and_ends_on_close(path: Path) -> None:
    before = set(threading.enumerate())
    store = Blocking(SqliteStore(path))
    with store:
        (thread,) = (each for each in set(threading.enumerate()) - before if each.name == "store")
        assert thread.daemon
    assert not thread.is_alive()
    store.close()
    for each in set(threading.enumerate()) - before:
        each.join(5.0)
        assert not each.is_alive(), each.name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_continues_with_its_own_connection(path: Path) -> None:
    with Blocking(SqliteStore(path)) as store:
        store.add([job()])
        process = os.fork()
        if process == 0:
            status = 1
            try:
                status = 0 if store.counts()["queued"] == 1 and store.add([job()]) else 1
                store.close()
            finally:
                os._exit(status)
        assert os.waitpid(process, 0)[1] == 0
        assert store.counts()["queued"] == 2
