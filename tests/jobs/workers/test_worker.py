"""One that works on the queue in this process: it runs what there is, and a bad job does not end it."""

from __future__ import annotations

from tests.jobs.conftest import Small

from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.worker import Worker
from flickbook.store.base import Job


def state(backend: Backend, job: Job) -> str:
    return backend.ask(backend.queue.job(job.id)).state


def test_a_worker_runs_the_queued_jobs(backend: Backend, small: Small) -> None:
    jobs = backend.ask(backend.queue.submit([small(seed) for seed in (1, 2)]))
    assert Worker(backend).work(2) == 2
    assert [state(backend, job) for job in jobs] == ["completed", "completed"]


def test_a_failing_job_does_not_end_the_worker(backend: Backend, small: Small) -> None:
    bad, good = small(1), small(2)
    begins = {"request": bad.request.model_copy(update={"image": "/nowhere.png"})}
    begins["plan"] = bad.plan.model_copy(update={"image": "0" * 64, "strength": 0.85})
    bad = bad.model_copy(update=begins)
    jobs = backend.ask(backend.queue.submit([bad, good]))
    Worker(backend).work(2)
    assert [state(backend, job) for job in jobs] == ["failed", "completed"]
    assert "nowhere.png" in backend.ask(backend.queue.job(bad.id)).error
