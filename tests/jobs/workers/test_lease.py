"""Leases are kept while jobs run, and their runner learns when to stop."""

from __future__ import annotations

from tests.jobs.conftest import Small
from tests.patience import until

from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.lease import Attempt
from flickbook.store.base import Job, Result


def claimed(backend: Backend, job: Job, seconds: float = 30.0) -> Job:
    (kept,) = backend.ask(backend.queue.submit([job]))
    found = backend.ask(backend.store.claim("me", seconds, id=kept.id))
    assert found is not None
    return found


def test_the_lease_is_renewed_with_the_progress(backend: Backend, small: Small) -> None:
    job = claimed(backend, small(), 60.0)

    def renewed() -> bool:
        return backend.ask(backend.queue.job(job.id)).lease_until > job.lease_until

    with Attempt(backend, [job], lease=60.0, beat=0.01, look=0.01) as attempt:
        attempt.report_progress(0.5)
        until(renewed)
        until(lambda: backend.ask(backend.queue.job(job.id)).reached == 0.5)
        assert backend.ask(backend.queue.recover()) == [] and not attempt.stop()
        assert backend.ask(backend.queue.job(job.id)).stalls == 0
        assert attempt.settle(job.id, queue.completed(job, Result())) is not None
        assert not attempt.stop()


def test_a_pause_request_reaches_the_attempt(backend: Backend, small: Small) -> None:
    job = claimed(backend, small())
    with Attempt(backend, [job], look=0.01) as attempt:
        assert not attempt.stop()
        backend.ask(backend.queue.pause(job.id))
        assert until(attempt.stop)
        assert [each.state for each in attempt.release()] == ["paused"]


def test_a_job_claimed_by_another_worker_is_lost(backend: Backend, small: Small) -> None:
    job = claimed(backend, small())
    with Attempt(backend, [job], look=0.01) as attempt:
        backend.ask(backend.queue.release_jobs_of("me", "thought dead"))
        assert backend.ask(backend.store.claim("another", 30.0)) is not None
        assert until(lambda: attempt.lost) and attempt.stop()
        assert attempt.settle(job.id, queue.completed(job, Result())) is None


def test_an_attempt_without_renewals_stops_when_its_lease_expires(backend: Backend, small: Small) -> None:
    job = claimed(backend, small())
    # No renewal reaches the store: another worker may hold the lease by now.
    attempt = Attempt(backend, [job], lease=600.0)
    attempt._kept -= 300.0
    assert not attempt.lost and not attempt.stop()
    attempt._kept -= 301.0
    assert attempt.lost and attempt.stop()


def test_several_jobs_are_leased_together_and_settled_one_by_one(backend: Backend, small: Small) -> None:
    one, two = claimed(backend, small(1)), claimed(backend, small(2))
    with Attempt(backend, [one, two], look=0.01) as attempt:
        attempt.settle(one.id, queue.completed(one, Result()))
        assert list(attempt.jobs) == [two.id]
        backend.ask(backend.queue.cancel(two.id))
        assert until(attempt.stop)
        assert [job.state for job in attempt.release()] == ["cancelled"]
