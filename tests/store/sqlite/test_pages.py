"""Rows out of pages that nobody vouches for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.store.base import Job, Note
from flickbook.store.sqlite.checksums import TABLES
from flickbook.store.sqlite.pages import rows
from flickbook.store.sqlite.store import SqliteStore

#: Rows on one page, on two, and on many.
JOBS = [job(error="x" * length, seconds=float(length), priority=-length % 100) for length in (0, 1, 900, 4000, 30_000)]
NOTES = [Note(kind="key", id=str(number), due=number / 2, body="é" * number) for number in range(30)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "flickbook.db"
    with Blocking(SqliteStore(path, connect=hasty)) as store:
        store.add(JOBS)
        for each in NOTES:
            store.put(each)
    return path


@pytest.fixture(scope="module")
def columns(path: Path) -> dict[str, list[str]]:
    db = sqlite3.connect(path)
    found = {each.name: [row[1] for row in db.execute(f"PRAGMA table_info({each.name})")] for each in TABLES}
    db.close()
    return found


def test_every_row_is_recovered_without_sqlite(path: Path, columns: dict[str, list[str]]) -> None:
    found = list(rows(path, columns))
    jobs = [Job.from_row({**row}) for table, row in found if table.name == "jobs"]
    assert [each.id for each in jobs] == [each.id for each in JOBS]
    assert [each.error for each in jobs] == [each.error for each in JOBS]
    notes = [row for table, row in found if table.name == "notes"]
    assert [each["body"] for each in notes] == [each.body for each in NOTES]


@given(st.data())
def test_random_bytes_yield_no_rows(path: Path, columns: dict[str, list[str]], data: st.DataObject) -> None:
    written = {(table.name, row["seal"]) for table, row in rows(path, columns)}
    noise = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(noise) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        noise[at : at + len(piece)] = piece
    copy = path.with_name("noise")
    copy.write_bytes(noise[: data.draw(st.integers(0, len(noise)))])
    assert {(table.name, row["seal"]) for table, row in rows(copy, columns)} <= written
