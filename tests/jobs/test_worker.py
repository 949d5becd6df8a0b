"""One that works on the queue in this process: it runs what there is, and a bad job does not end it."""

from __future__ import annotations

from tests.jobs.conftest import Small

from flickbook.jobs.desk import Desk
from flickbook.jobs.worker import Worker
from flickbook.store.base import Job


def state(desk: Desk, job: Job) -> str:
    return desk.ask(desk.queue.job(job.id)).state


def test_a_worker_runs_what_there_is(desk: Desk, small: Small) -> None:
    jobs = desk.ask(desk.queue.submit([small(seed) for seed in (1, 2)]))
    assert Worker(desk).work(2) == 2
    assert [state(desk, job) for job in jobs] == ["completed", "completed"]


def test_one_that_fails_does_not_end_the_worker(desk: Desk, small: Small) -> None:
    bad, good = small(1), small(2)
    bad = bad.model_copy(update={"request": bad.request.model_copy(update={"image": "/nowhere.png"})})
    jobs = desk.ask(desk.queue.submit([bad, good]))
    Worker(desk).work(2)
    assert [state(desk, job) for job in jobs] == ["failed", "completed"]
    assert "nowhere.png" in desk.ask(desk.queue.job(bad.id)).error
