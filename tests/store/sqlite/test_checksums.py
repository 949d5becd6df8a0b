"""Rows that are not what was written are never believed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import StoreError
from flickbook.store.base import Job, Note, Query
from flickbook.store.sqlite.checksums import JOBS
from flickbook.store.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flickbook.db"


def opened(path: Path) -> Blocking:
    return Blocking(SqliteStore(path, connect=hasty))


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        work()
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "error = 'x'",
        "attempt = attempt + 1",
        "state = 'completed'",
        "plan = replace(plan, 'red', 'rod')",
        "seconds = x'00'",
        "error = CAST(x'ff00' AS TEXT)",
        "lease_until = ''",
    ],
)
def test_a_changed_row_is_refused(path: Path, change: str) -> None:
    with opened(path) as store:
        damaged, fine = store.add([job(), job()])
    db = sqlite3.connect(path)
    db.execute(f"UPDATE jobs SET {change} WHERE id=?", (damaged.id,))
    db.commit()
    db.close()
    with opened(path) as store:
        asks: list[Callable[[], object]] = [
            lambda: store.get(damaged.id),
            lambda: store.find(Query()),
            lambda: store.claim("one", 30.0, damaged.id),
            lambda: store.change(damaged.id, ("queued", "completed"), {"state": "cancelled"}),
        ]
        for ask in asks:
            if "state" in change and ask is asks[2]:
                continue
            text = refusal(ask)
            assert damaged.id in text and "flickbook repair" in text
        assert store.get(fine.id) == fine
        assert [each for each in store.check() if damaged.id in each]


def test_a_changed_note_is_refused(path: Path) -> None:
    with opened(path) as store:
        store.put(Note(kind="key", id="a", body='{"sha256":"00"}'))
        db = sqlite3.connect(path)
        db.execute("""UPDATE notes SET body='{"sha256":"01"}'""")
        db.commit()
        db.close()
        assert "key a" in refusal(lambda: store.note("key", "a"))
        assert "key a" in refusal(lambda: store.notes("key"))
        assert store.check() == ["notes key a is damaged"]


def test_check_reports_rows_that_do_not_parse(path: Path) -> None:
    with opened(path) as store:
        added = store.add([job()])[0]
        db = sqlite3.connect(path)
        JOBS.update(db, added.to_row(), {"kind": "opera"})
        db.commit()
        db.close()
        assert [added.id in line and "does not parse" in line for line in store.check()] == [True]
        assert "does not parse" in refusal(lambda: store.get(added.id))


def test_every_field_of_a_job_has_its_column(path: Path) -> None:
    with opened(path):
        pass
    db = sqlite3.connect(path)
    columns = {row[1]: row[2] for row in db.execute("PRAGMA table_info(jobs)")}
    db.close()
    assert set(columns) == {*Job.model_fields, *JOBS.unused, "seq", "seal"}
    kinds = {float: "REAL", int: "INTEGER", str: "TEXT"}
    assert all(columns[name] == kinds[type(value)] for name, value in job().to_row().items())


@given(st.sampled_from(JOBS.columns), st.integers() | st.floats() | st.text() | st.none() | st.binary())
def test_any_changed_value_breaks_the_checksum(name: str, value: Any) -> None:
    row = ROW | {"seal": JOBS.seal(ROW)}
    same = type(value) is type(ROW[name]) and value == ROW[name]
    assert (JOBS.unsealed(row | {name: value}) is not None) == same


ROW = job().to_row()
