"""How many workers a queue gets."""

from __future__ import annotations

from flickbook.jobs.cluster.scaling import IDLE_AFTER, ActorState, Change, change

BUSY, IDLE, PLACING = ActorState(True, 0.0), ActorState(True, IDLE_AFTER + 1), ActorState()


def test_there_is_a_worker_for_each_job_up_to_the_limit() -> None:
    assert change([], queued=0, running=0, most=4) == Change(start=1)
    assert change([BUSY], queued=2, running=1, most=4) == Change(start=2)
    assert change([BUSY], queued=9, running=1, most=4) == Change(start=3)


def test_workers_of_other_servers_count() -> None:
    assert change([], queued=5, running=0, most=8, elsewhere=3) == Change(start=2)
    assert change([], queued=0, running=0, most=8, elsewhere=3) == Change()


def test_an_idle_worker_is_stopped_when_the_queue_does_not_need_it() -> None:
    recent = ActorState(True, IDLE_AFTER - 1)
    assert change([BUSY, recent], queued=0, running=1, most=4) == Change()
    assert change([BUSY, IDLE], queued=0, running=1, most=4) == Change(stop=(1,))
    assert change([IDLE], queued=0, running=0, most=4) == Change(), "the last one stays"
    assert change([IDLE, IDLE], queued=2, running=0, most=4) == Change()


def test_a_worker_that_finds_no_machine_is_given_up_first() -> None:
    assert change([IDLE, PLACING, BUSY], queued=1, running=1, most=4) == Change(stop=(1,))
