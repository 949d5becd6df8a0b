"""The queue for callers without an event loop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.jobs.conftest import Small
from tests.patience import until

from flickbook.errors import JobNotFound, StoreError
from flickbook.jobs.backend import Backend, artifacts


def test_any_thread_may_ask(backend: Backend, small: Small) -> None:
    jobs = [small(seed) for seed in range(8)]
    threads = [threading.Thread(target=lambda job=job: backend.ask(backend.queue.submit([job]))) for job in jobs]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.ask(backend.store.counts())["queued"] == 8


def test_errors_reach_the_caller(backend: Backend) -> None:
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.job("job_x"))


def test_a_failed_open_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database, whatever its name may say" * 100)
    before = threading.active_count()
    with pytest.raises(StoreError):
        Backend.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    until(lambda: threading.active_count() <= before)


def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    backend = Backend.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    backend.close()
    backend.close()


def test_the_artifact_directory_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert artifacts().root.name == "jobs"
    monkeypatch.setenv("FLICKBOOK_JOBS_DIR", str(tmp_path / "films"))
    assert artifacts().root == tmp_path / "films"
