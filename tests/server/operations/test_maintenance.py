"""What the service does by itself: it frees, forgets and clears up, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.patience import PATIENCE
from tests.server.live import Live, live

from flickbook.errors import StoreError
from flickbook.server.operations import maintenance


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as found:
        yield found


def test_files_without_a_job_are_removed_after_an_hour(service: Live) -> None:
    artifacts = service.service.artifacts
    kept, orphan, fresh = service.job().id, f"job_{'1' * 26}", f"job_{'2' * 26}"
    for id in (kept, orphan, fresh):
        (artifacts.made(id) / "film-1.mp4").write_bytes(b"x")
    for id in (kept, orphan):
        os.utime(artifacts.of(id), (time.time() - 3700,) * 2)
    service.ask(maintenance.delete_old(service.service))
    assert [artifacts.of(id).exists() for id in (kept, orphan, fresh)] == [True, False, True]


def test_checkpoints_of_completed_films_are_removed_and_those_of_drafts_kept(service: Live) -> None:
    artifacts = service.service.artifacts
    film, draft, waiting = service.job(), service.job(kind="draft"), service.job()
    for job in (film, draft, waiting):
        artifacts.made(job.id)
        artifacts.checkpoint(job.id).write_bytes(b"x")
        os.utime(artifacts.of(job.id), (time.time() - 3700,) * 2)
    for job in (film, draft):
        service.ask(service.service.store.change(job.id, ("queued",), {"state": "completed"}))
    service.ask(maintenance.delete_old(service.service))
    assert [artifacts.checkpoint(job.id).exists() for job in (film, draft, waiting)] == [False, True, True]


def test_completed_jobs_are_deleted_after_the_configured_time(tmp_path: Path) -> None:
    with live(tmp_path, keep=100.0) as service:
        old, new, queued = (service.job() for _ in range(3))
        for job, age in ((old, 200), (new, 50)):
            done = {"state": "completed", "finished_at": time.time() - age}
            service.ask(service.service.store.change(job.id, ("queued",), done))
        service.ask(maintenance.delete_old(service.service))
        assert [service.get(f"/api/v1/jobs/{job.id}").status_code for job in (old, new, queued)] == [404, 200, 200]


def test_a_store_error_does_not_end_maintenance(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def work() -> None:
        calls.append(1)
        raise StoreError("x", "is gone", "wait") if len(calls) == 1 else ValueError("a bug")

    async def main() -> None:
        task = asyncio.create_task(maintenance._every(0.01, work))
        while len(calls) < 4:
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
