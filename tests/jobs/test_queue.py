"""The rules of the queue: what may be asked of a job in which state, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from tests.jobs.conftest import Small

from flickbook.errors import JobConflict, JobNotFound, LimitReached, MediaError, RequestError
from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.store.base import DONE, Job, Result, State

LEASE = 30.0


def submitted(backend: Backend, *jobs: Job) -> list[Job]:
    return backend.ask(backend.queue.submit(jobs))


def claimed(backend: Backend, job: Job) -> Job:
    found = backend.ask(backend.store.claim("a worker", LEASE, id=job.id))
    assert found is not None
    return found


def test_a_job_goes_from_queued_to_running_to_completed(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    assert (job.state, job.kind, job.attempt) == ("queued", "film", 0)
    running = claimed(backend, job)
    assert (running.state, running.attempt, running.stalls) == ("running", 1, 1)
    done = backend.ask(backend.store.settle(job.id, 1, queue.completed(running, Result(path="x.mp4"), 2.5)))
    assert done is not None and (done.state, done.seconds, done.reached) == ("completed", 2.5, 1.0)
    assert done.finished_at > 0 and done.lease_until == 0 and done.worker == ""


def test_queued_jobs_are_cancelled_and_paused_at_once(backend: Backend, small: Small) -> None:
    one, two = submitted(backend, small(1), small(2))
    assert backend.ask(backend.queue.cancel(one.id)).state == "cancelled"
    assert backend.ask(backend.queue.cancel(one.id)).state == "cancelled"  # asked twice is no error
    assert backend.ask(backend.queue.pause(two.id)).state == "paused"
    assert backend.ask(backend.store.claim("a worker", LEASE)) is None
    assert backend.ask(backend.queue.resume(two.id)).state == "queued"
    assert backend.ask(backend.queue.retry(one.id)).state == "queued"
    assert backend.ask(backend.store.claim("a worker", LEASE)) is not None


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_running_job_is_asked_to_stop(backend: Backend, small: Small, wish: str, state: str) -> None:
    (job,) = submitted(backend, small())
    running = claimed(backend, job)
    requested = backend.ask(getattr(backend.queue, wish)(job.id))
    assert (requested.state, requested.wanted) == ("running", wish)
    released = backend.ask(backend.queue.release(requested, 1.0))
    assert released is not None and released.state == state and released.attempt == running.attempt
    # To lay a job down is no failure to get on.
    assert released.stalls == (1 if state in DONE else 0)


def test_a_cancellation_during_release_takes_effect(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    before = claimed(backend, job)
    backend.ask(backend.queue.cancel(job.id))
    released = backend.ask(backend.queue.release(before))  # its runner had not heard of it
    assert released is not None and released.state == "cancelled"


def test_a_cancellation_during_recovery_takes_effect(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    before = claimed(backend, job)
    backend.ask(backend.queue.cancel(job.id))
    freed = backend.ask(backend.store.settle(job.id, 1, queue.orphaned(before)))
    assert freed is not None and (freed.state, freed.wanted) == ("queued", "cancel")
    assert backend.ask(backend.queue._apply_request(freed)).state == "cancelled"


def test_a_job_removed_during_recovery_stays_removed(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = submitted(backend, small())
    before, store = claimed(backend, job), backend.store
    backend.ask(backend.queue.cancel(job.id))
    settle, change, remove = store.settle, store.change, store.remove

    async def unaware(id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        return await settle(id, attempt, queue.orphaned(before), lapsed=lapsed)

    async def too_late(id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        await remove(id, ("queued",))
        return await change(id, states, changes)

    monkeypatch.setattr(store, "settle", unaware)
    monkeypatch.setattr(store, "change", too_late)
    assert backend.ask(backend.queue.release_jobs_of("a worker", "it died")) == []


def test_a_job_that_has_run_does_not_expire(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small(expires_at=time.time() + 60))
    claimed(backend, job)
    backend.ask(backend.queue.release_jobs_of("a worker", "the service ended"))
    assert backend.ask(backend.queue.job(job.id)).expires_at == 0.0


def test_pausing_does_not_undo_a_cancellation(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    claimed(backend, job)
    backend.ask(backend.queue.cancel(job.id))
    assert backend.ask(backend.queue.pause(job.id)).wanted == "cancel"


@pytest.mark.parametrize("wish", ["cancel", "pause", "resume"])
def test_a_completed_job_cannot_be_changed(backend: Backend, small: Small, wish: str) -> None:
    (job,) = submitted(backend, small())
    running = claimed(backend, job)
    backend.ask(backend.store.settle(job.id, 1, queue.completed(running, Result())))
    with pytest.raises(JobConflict, match=f"{job.id}: is completed and cannot be .*; .*flickbook jobs show"):
        backend.ask(getattr(backend.queue, wish)(job.id))
    with pytest.raises(JobConflict):
        backend.ask(backend.queue.retry(job.id))


@pytest.mark.parametrize(
    "id", ["", "job_", "../../etc/passwd", "job_" + "0" * 25, "job_" + "0" * 26, "JOB_" + "0" * 26]
)
def test_invalid_and_unknown_ids_are_not_found(backend: Backend, id: str) -> None:
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.job(id))


def test_a_job_of_another_owner_is_not_found(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small(owner="ada"))
    assert backend.ask(backend.queue.job(job.id, "ada")).id == job.id == backend.ask(backend.queue.job(job.id)).id
    for ask in (backend.queue.job, backend.queue.cancel, backend.queue.pause, backend.queue.remove):
        with pytest.raises(JobNotFound):
            backend.ask(ask(job.id, "bob"))


def orphan(job: Job, **fields: Any) -> State:
    changes = queue.orphaned(job.model_copy(update=fields))
    assert changes["worker"] == "" and changes["lease_until"] == 0.0
    return changes["state"]  # type: ignore[no-any-return]


def test_an_orphaned_job_is_requeued_paused_cancelled_or_failed(small: Small) -> None:
    job = small()
    assert orphan(job, stalls=1) == orphan(job, stalls=2) == "queued"
    assert orphan(job, stalls=3) == "failed"
    assert orphan(job, stalls=3, wanted="cancel") == "cancelled"
    assert orphan(job, stalls=1, wanted="pause") == "paused"
    assert orphan(job, stalls=9, home="command") == "paused"
    changes = queue.orphaned(job.model_copy(update={"stalls": 3}), "its worker was killed by SIGSEGV")
    assert changes["error_code"] == "worker_lost"
    assert "killed by SIGSEGV" in changes["error"] and "3 attempts" in changes["error"]


def test_an_expired_lease_returns_the_job_to_the_queue_and_its_token_is_refused(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    first = backend.ask(backend.store.claim("one", 0.0))
    assert first is not None
    assert [each.state for each in backend.ask(backend.queue.recover())] == ["queued"]
    second = claimed(backend, job)
    assert second.attempt == 2
    assert backend.ask(backend.store.renew(job.id, 1, LEASE, 0.9)) is None
    assert backend.ask(backend.store.settle(job.id, 1, queue.completed(first, Result(path="stale")))) is None
    assert backend.ask(backend.queue.job(job.id)).result is None


def test_three_attempts_without_progress_fail_the_job(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    for _ in range(3):
        assert backend.ask(backend.store.claim("one", 0.0)) is not None
        backend.ask(backend.queue.recover())
    assert backend.ask(backend.queue.job(job.id)).state == "failed"
    again = backend.ask(backend.queue.retry(job.id))
    assert (again.state, again.stalls, again.error) == ("queued", 0, "")


def test_attempts_with_progress_do_not_count_as_stalls(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    for number in range(1, 6):
        found = backend.ask(backend.store.claim("one", 0.02))
        assert found is not None
        backend.ask(backend.store.renew(job.id, number, 0.01, number / 10))
        time.sleep(0.03)
        backend.ask(backend.queue.recover())
    assert backend.ask(backend.queue.job(job.id)).state == "queued"


def test_jobs_of_a_dead_worker_are_released_at_once(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    backend.ask(backend.store.claim("the dead", LEASE))
    assert backend.ask(backend.queue.release_jobs_of("another", "it died")) == []
    (found,) = backend.ask(backend.queue.release_jobs_of("the dead", "its worker was killed by SIGKILL"))
    assert (found.state, found.error) == ("queued", "its worker was killed by SIGKILL")


def test_a_queued_job_expires_after_its_time(backend: Backend, small: Small) -> None:
    late, kept = submitted(backend, small(1, expires_at=time.time() - 1), small(2, expires_at=time.time() + 999))
    found = backend.ask(backend.store.claim("a worker", LEASE))
    assert found is not None and found.id == kept.id
    assert [each.id for each in backend.ask(backend.queue.recover())] == [late.id]
    assert backend.ask(backend.queue.job(late.id)).state == "expired"
    backend.ask(backend.queue.retry(late.id))
    assert backend.ask(backend.queue.recover()) == [], "a retried job does not expire again"
    assert backend.ask(backend.queue.job(late.id)).state == "queued"


def test_owners_take_turns_and_priority_comes_first(backend: Backend, small: Small) -> None:
    ada = submitted(backend, *(small(seed, owner="ada") for seed in range(4)))
    bob = submitted(backend, *(small(seed, owner="bob") for seed in range(2)))
    urgent = submitted(backend, small(9, owner="ada", priority=5))
    order = []
    while (job := backend.ask(backend.store.claim("a worker", LEASE))) is not None:
        order.append(job.id)
    assert order == [urgent[0].id, ada[0].id, bob[0].id, ada[1].id, bob[1].id, ada[2].id, ada[3].id]


def test_an_owner_can_reorder_only_their_own_jobs(backend: Backend, small: Small) -> None:
    one, two, three = submitted(backend, *(small(seed, owner="ada") for seed in range(3)))
    (other,) = submitted(backend, small(owner="bob"))
    backend.ask(backend.queue.reorder(three.id, before=one.id, owner="ada"))
    with pytest.raises(JobConflict, match="same owner"):
        backend.ask(backend.queue.reorder(three.id, before=other.id))
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.reorder(three.id, before=other.id, owner="ada"))
    order = []
    while (job := backend.ask(backend.store.claim("a worker", LEASE))) is not None:
        order.append(job.id)
    # Nobody else's place moves.
    assert order == [three.id, other.id, one.id, two.id]
    with pytest.raises(JobConflict, match="is running"):
        backend.ask(backend.queue.reorder(one.id, before=two.id))


def test_the_same_key_returns_the_same_job(backend: Backend, small: Small) -> None:
    (one,) = submitted(backend, small(1, key="again", owner="ada"))
    (two,) = submitted(backend, small(2, key="again", owner="ada"))
    (three,) = submitted(backend, small(3, key="again", owner="bob"))
    assert one.id == two.id != three.id


def test_a_full_queue_refuses_with_retry_after(backend: Backend, small: Small) -> None:
    submitted(backend, small(1))
    with pytest.raises(LimitReached) as caught:
        backend.ask(backend.queue.submit([small(2)], depth=1))
    assert caught.value.retry_after > 0


def test_a_job_of_a_command_is_never_claimed_by_a_worker(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small(home="command", output="/tmp/x.mp4"))
    assert job.state == "paused" and backend.ask(backend.store.claim("a worker", LEASE)) is None
    assert backend.ask(backend.queue.resume(job.id)).state == "paused"
    claimed(backend, job)
    released = backend.ask(backend.queue.release(backend.ask(backend.queue.job(job.id))))
    assert released is not None and released.state == "paused"


def test_removing_a_job_removes_its_files(backend: Backend, small: Small) -> None:
    (job,) = submitted(backend, small())
    backend.artifacts.write_progress(job.id, fraction=0.5)
    backend.ask(backend.queue.remove(job.id))
    assert not backend.artifacts.of(job.id).exists()
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.job(job.id))


def test_a_job_that_completes_during_removal_is_removed(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = submitted(backend, small())
    running, settle, change = claimed(backend, job), backend.store.settle, backend.store.change

    async def too_late(id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        if changes.get("wanted") == "cancel":
            await settle(id, 1, queue.completed(running, Result()))
        return await change(id, states, changes)

    monkeypatch.setattr(backend.store, "change", too_late)
    backend.ask(backend.queue.remove(job.id))
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.job(job.id))


def test_jobs_completed_long_ago_are_swept(backend: Backend, small: Small) -> None:
    old, new, waiting = submitted(backend, small(1), small(2), small(3))
    for job, age in ((old, 100.0), (new, 1.0)):
        running = claimed(backend, job)
        changes = queue.completed(running, Result()) | {"finished_at": time.time() - age}
        backend.ask(backend.store.settle(job.id, 1, changes))
        (backend.artifacts.made(job.id) / "film-1.mp4").write_bytes(bytes(1000))
    assert [job.id for job in backend.ask(backend.queue.delete_old(50))] == [old.id]
    assert [job.id for job in backend.ask(backend.queue.delete_old(0, most_bytes=500))] == [new.id]
    assert backend.ask(backend.queue.job(waiting.id)).state == "queued"
    assert not backend.artifacts.of(old.id).exists() and not backend.artifacts.of(new.id).exists()


def test_a_favourite_is_swept_last_and_only_for_space(backend: Backend, small: Small) -> None:
    jobs = backend.ask(backend.queue.submit([small() for _ in range(3)]))
    for job in jobs:
        backend.ask(backend.store.claim("one", 60, job.id))
        backend.ask(backend.store.settle(job.id, 1, queue.completed(job, Result()) | {"finished_at": 1.0}))
        (backend.artifacts.made(job.id) / "film-1.mp4").write_bytes(bytes(1000))
    first, second, _ = jobs
    for job in (first, second):
        backend.ask(backend.queue.favour(job.id, True))
    assert backend.ask(backend.queue.favourites(jobs)) == {first.id, second.id}
    assert [job.id for job in backend.ask(backend.queue.delete_old(0, most_bytes=2500))] == [jobs[2].id]
    assert backend.ask(backend.queue.delete_old(50)) == []
    assert [job.id for job in backend.ask(backend.queue.delete_old(50, most_bytes=1500))] == [first.id]
    backend.ask(backend.queue.favour(second.id, False))
    assert [job.id for job in backend.ask(backend.queue.delete_old(50))] == [second.id]
    assert backend.ask(backend.store.notes("favourite")) == []


def test_removing_a_job_removes_its_favourite_mark(backend: Backend, small: Small) -> None:
    (job,) = backend.ask(backend.queue.submit([small(owner="a")]))
    with pytest.raises(JobNotFound):
        backend.ask(backend.queue.favour(job.id, True, "b"))
    assert backend.ask(backend.queue.favour(job.id, True, "a")) == job
    assert [note.owner for note in backend.ask(backend.store.notes("favourite"))] == ["a"]
    backend.ask(backend.queue.remove(job.id))
    assert backend.ask(backend.store.notes("favourite")) == []


def test_a_failed_job_keeps_its_error(small: Small) -> None:
    changes = queue.failed(small(), MediaError("x.mp4", "is damaged", "send another"))
    assert (changes["error_code"], changes["error"]) == ("media", "x.mp4: is damaged; send another")
    changes = queue.failed(small(), ValueError("two\nlines"))
    assert (changes["error_code"], changes["error"]) == ("unexpected", "unexpected ValueError: two lines")


def test_states_are_parsed_from_names() -> None:
    assert queue.states(["paused", "queued"]) == ("queued", "paused")
    with pytest.raises(RequestError, match="no such state"):
        queue.states(["done"])
