"""`flickbook worker` as a process: it works on a queue that others fill, and ends in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.conftest import Small, small  # noqa: F401
from tests.patience import PATIENCE, until

import flickbook
from flickbook.jobs.backend import Backend

SOURCE = Path(flickbook.__file__).parents[1]


@pytest.mark.slow
def test_a_worker_runs_the_jobs_of_a_store_and_shared_storage(tmp_path: Path, data: Path, small: Small) -> None:  # noqa: F811
    store, storage = f"sqlite:///{tmp_path}/jobs.db", str(tmp_path / "storage")
    with Backend.at(store, tmp_path / "here", storage) as backend:
        (job,) = backend.ask(backend.queue.submit([small()]))
        process = subprocess.Popen(
            [sys.executable, "-m", "flickbook", "worker", "--store", store, "--artifacts", storage],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("working on SQLite")
            done = until(lambda: (found := backend.ask(backend.queue.job(job.id))).state == "completed" and found)
            film = backend.artifacts.of(job.id) / Path(done.result.path).name
            assert backend.artifacts.opened(film).size == done.result.bytes
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == "stopped\n"
        finally:
            process.kill()


@pytest.mark.slow
def test_storage_that_cannot_be_written_is_refused_at_once(command: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    ran = command("worker", "--store", f"sqlite:///{tmp_path}/jobs.db", "--artifacts", str(tmp_path / "file"))
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "check its address" in ran.stderr
