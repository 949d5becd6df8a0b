"""Whatever call fails, and whenever the process dies: what was acknowledged is there, and nothing is half-changed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.blocking import Blocking
from tests.store.examples import Hasty, hasty, job

from flickbook.errors import StoreError
from flickbook.store.base import Job, Note, Query, new_id
from flickbook.store.sqlite.store import SqliteStore

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Fault:
    """Lets the n-th statement fail, before or after SQLite has done it."""

    def __init__(self, number: int, after: bool) -> None:
        self.left, self.after, self.met = number, after, False

    def connect(self, *arguments: Any, **keywords: Any) -> sqlite3.Connection:
        fault = self

        class Failing(Hasty):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                fault.left -= 1
                if fault.left != 0:
                    return super().execute(sql, *parameters)
                fault.met = True
                if fault.after:
                    super().execute(sql, *parameters)
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
                raise error

        return sqlite3.connect(*arguments, factory=Failing, **keywords)


Contents = tuple[dict[str, Job], dict[str, Note]]
IDS = [new_id("job") for _ in range(4)]
NOTE = Note(kind="key", id="a", due=2.0, body='{"a":1}')


def contents(store: Blocking) -> Contents:
    """All that is in a store, but for the times, which differ between two runs."""
    fixed = {"created_at": 0.0, "started_at": 0.0, "lease_until": 0.0}
    jobs = {each.id: each.model_copy(update=fixed) for each in store.find(Query(limit=1000))}
    return jobs, {each.id: each for each in store.notes("key")}


def steps(store: Blocking) -> Iterator[Callable[[], object]]:
    """Everything that changes a store, one after the other."""
    yield lambda: store.add([job(id=IDS[0], key="k"), job(id=IDS[1], owner="b"), job(id=IDS[2])])
    yield lambda: store.reorder(IDS[0], None)
    yield lambda: store.claim("one", 60.0, IDS[0])
    yield lambda: store.renew(IDS[0], 1, 60.0, 0.5)
    yield lambda: store.put(NOTE)
    yield lambda: store.claim("one", 60.0)
    yield lambda: store.settle(IDS[0], 1, {"state": "completed", "seconds": 2.0})
    yield lambda: store.change(IDS[2], ("queued", "running"), {"priority": 3})
    yield lambda: store.add([job(id=IDS[3], key="k")])
    yield lambda: store.take("a", 2, 5, 60.0)
    yield lambda: store.remove(IDS[0], ("completed",))
    yield lambda: store.put(NOTE.model_copy(update={"due": 3.0}))
    yield lambda: store.drop("key", "a")
    yield lambda: store.secret("links")


def history(path: Path) -> list[Contents]:
    """What is in the store before each step, and after the last."""
    with Blocking(SqliteStore(path, connect=hasty)) as store:
        found = [contents(store)]
        for step in steps(store):
            step()
            found.append(contents(store))
    return found


def broken(path: Path, fault: Fault) -> int:
    """Take the steps until one fails; how many were acknowledged. The one that failed is tried once more at once."""
    store = Blocking(SqliteStore(path, connect=fault.connect))
    done = 0
    try:
        store.open()
        for step in steps(store):
            step()
            done += 1
        assert not fault.met, "an error was hidden"
    except StoreError as error:
        assert "disk" in str(error)
        with Blocking(SqliteStore(path, connect=hasty)) as other:  # no lock was left behind
            assert other.check() == []
    finally:
        store.close()
    return done


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_in_any_statement_leaves_all_or_nothing(tmp_path: Path, stride: int) -> None:
    before = history(tmp_path / "whole.db")
    assert len(before) == 15 and len(before[-1][0]) == 2
    for after in (False, True):
        number, met = 1 - stride, True
        while met:
            number += stride
            fault = Fault(number, after)
            path = tmp_path / f"{number}-{after}" / "flickbook.db"
            done = broken(path, fault)
            met = fault.met
            with Blocking(SqliteStore(path, connect=hasty)) as store:
                found = contents(store)
                assert store.check() == []
                # What was not acknowledged is there as a whole, or not at all.
                assert found in before[done : done + 2], f"statement {number}, step {done}"
        assert number > 80


@forks
@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
@pytest.mark.parametrize("step", [8192, pytest.param(512, marks=pytest.mark.trial)])
@pytest.mark.slow
def test_a_disk_full_at_any_byte_loses_no_acknowledged_write(tmp_path: Path, step: int) -> None:
    import resource

    for limit in range(0, 160_000, step):
        path = tmp_path / str(limit) / "flickbook.db"
        path.parent.mkdir()
        output = _child(lambda say, path=path: _add_until_it_fails(path, say), (resource.RLIMIT_FSIZE, limit))
        if not path.exists():
            assert output == [] and limit < 90_000
            continue
        with Blocking(SqliteStore(path)) as store:
            assert store.check() == []
            assert {each.id for each in store.find(Query(limit=1000))} >= set(output)
        assert len(list(path.parent.glob(".*"))) == 0


def _add_until_it_fails(path: Path, say: Callable[[str], None]) -> None:
    with Blocking(SqliteStore(path)) as store:
        for number in range(100):
            added = store.add([job(error="x" * 500) for _ in range(number % 4 + 1)])
            for each in added:
                say(each.id)


def _child(work: Callable[[Callable[[str], None]], None], limit: tuple[int, int]) -> list[str]:
    """What a forked process says, under a limit, until it has met an error of the store."""
    import resource

    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            resource.setrlimit(limit[0], (limit[1], limit[1]))
            work(lambda text: os.write(write, text.encode() + b"\n") and None)
        except StoreError:
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with open(read) as lines:
        output = lines.read().split()
    assert os.waitpid(process, 0)[1] == 0
    return output


@forks
@pytest.mark.parametrize("trials", [15, pytest.param(300, marks=pytest.mark.trial)])
@pytest.mark.slow
def test_a_kill_at_any_instant_loses_no_acknowledged_write(tmp_path: Path, trials: int) -> None:
    chance = random.Random(trials)
    path = tmp_path / "flickbook.db"
    with Blocking(SqliteStore(path)):
        pass
    acknowledged: set[str] = set()
    for _ in range(trials):
        read, write = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                _work_for_ever(path, write)
            finally:
                os._exit(1)
        os.close(write)
        os.read(read, 27)  # it is at work
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with open(read) as lines:
            acknowledged |= {line for line in lines.read().split() if len(line) == 30}
        with Blocking(SqliteStore(path)) as store:
            assert store.check() == []
            assert {each.id for each in store.find(Query(limit=100_000))} >= acknowledged
    assert acknowledged


def _work_for_ever(path: Path, write: int) -> None:
    with Blocking(SqliteStore(path)) as store:
        while True:
            for each in store.add([job() for _ in range(3)]):
                os.write(write, each.id.encode() + b"\n")
            found = store.claim("one", 60.0)
            assert found is not None
            store.renew(found.id, found.attempt, 60.0, 0.5)
            store.settle(found.id, found.attempt, {"state": "completed"})
