"""The queue for callers without an event loop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.jobs.conftest import Small
from tests.patience import until

from flickbook.errors import JobNotFound, StoreError
from flickbook.jobs.desk import Desk, shelf


def test_any_thread_may_ask(desk: Desk, small: Small) -> None:
    jobs = [small(seed) for seed in range(8)]
    threads = [threading.Thread(target=lambda job=job: desk.ask(desk.queue.submit([job]))) for job in jobs]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.ask(desk.store.counts())["queued"] == 8


def test_errors_come_through(desk: Desk) -> None:
    with pytest.raises(JobNotFound):
        desk.ask(desk.queue.job("job_x"))


def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database, whatever its name may say" * 100)
    before = threading.active_count()
    with pytest.raises(StoreError):
        Desk.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    until(lambda: threading.active_count() <= before)


def test_it_may_be_closed_twice(tmp_path: Path) -> None:
    desk = Desk.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    desk.close()
    desk.close()


def test_the_settings_say_where_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shelf().root.name == "jobs"
    monkeypatch.setenv("FLICKBOOK_JOBS_DIR", str(tmp_path / "films"))
    assert shelf().root == tmp_path / "films"
