"""Leases are kept while jobs run, and their runner learns when to stop."""

from __future__ import annotations

import time

from tests.jobs.conftest import Small

from flickbook.jobs import queue
from flickbook.jobs.attempt import Attempt
from flickbook.jobs.desk import Desk
from flickbook.store.base import Job, Result


def claimed(desk: Desk, job: Job, seconds: float = 30.0) -> Job:
    (kept,) = desk.ask(desk.queue.submit([job]))
    found = desk.ask(desk.store.claim("me", seconds, id=kept.id))
    assert found is not None
    return found


def passing(what: object) -> bool:
    until = time.monotonic() + 10
    while not what():  # type: ignore[operator]
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_a_lease_is_kept_and_progress_counts(desk: Desk, small: Small) -> None:
    job = claimed(desk, small(), 0.3)
    with Attempt(desk, [job], lease=0.3, beat=0.05, look=0.01) as attempt:
        attempt.reach(0.5)
        time.sleep(0.5)  # longer than the lease
        assert desk.ask(desk.queue.tend()) == [] and not attempt.stop()
        found = desk.ask(desk.queue.job(job.id))
        assert (found.reached, found.stalls) == (0.5, 0)
        assert attempt.settle(job.id, queue.completed(job, Result())) is not None
        assert not attempt.stop()


def test_a_wish_is_heard(desk: Desk, small: Small) -> None:
    job = claimed(desk, small())
    with Attempt(desk, [job], look=0.01) as attempt:
        assert not attempt.stop()
        desk.ask(desk.queue.pause(job.id))
        assert passing(attempt.stop)
        assert [each.state for each in attempt.lay_down()] == ["paused"]


def test_a_job_that_is_somebody_elses_is_lost(desk: Desk, small: Small) -> None:
    job = claimed(desk, small())
    with Attempt(desk, [job], look=0.01) as attempt:
        desk.ask(desk.queue.bury("me", "thought dead"))
        assert desk.ask(desk.store.claim("another", 30.0)) is not None
        assert passing(lambda: attempt.lost) and attempt.stop()
        assert attempt.settle(job.id, queue.completed(job, Result())) is None


def test_whoever_cannot_reach_the_store_stops_when_the_lease_is_over(desk: Desk, small: Small) -> None:
    job = claimed(desk, small())
    # No beat comes through: another may have it by now.
    with Attempt(desk, [job], lease=0.2, beat=60.0, look=0.01) as attempt:
        attempt._kept = time.monotonic() - 0.1
        assert not attempt.lost or time.monotonic() - attempt._kept > 0.2
        assert passing(lambda: attempt.lost)


def test_several_are_kept_and_settled_one_by_one(desk: Desk, small: Small) -> None:
    one, two = claimed(desk, small(1)), claimed(desk, small(2))
    with Attempt(desk, [one, two], look=0.01) as attempt:
        attempt.settle(one.id, queue.completed(one, Result()))
        assert list(attempt.jobs) == [two.id]
        desk.ask(desk.queue.cancel(two.id))
        assert passing(attempt.stop)
        assert [job.state for job in attempt.lay_down()] == ["cancelled"]
