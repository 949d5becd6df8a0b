"""Jobs that are claimed together with one that was claimed already, past others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.blocking import Blocking
from tests.store.examples import PLAN, Another, drained, ids, job

from flickbook.store.base import Job, Query, new_id


def alike(one: Job) -> bool:
    return one.plan.width == PLAN.width


OTHER = PLAN.model_copy(update={"width": 96})


def test_claim_more_takes_matching_jobs_in_queue_order(store: Blocking) -> None:
    plans = [PLAN, PLAN, OTHER, PLAN, OTHER, PLAN]
    added = [store.add([job(plan=plan)])[0].id for plan in plans]
    paused, own = store.add([job(), job(home="command")])
    store.change(paused.id, ("queued",), {"state": "paused"})
    first = store.claim("one", 30.0)
    assert first is not None and first.id == added[0]
    before = store.now()
    more = store.claim_more("one", 30.0, alike, 2, 32)
    assert ids(more) == [added[1], added[3]]
    assert all((each.state, each.worker, each.attempt, each.stalls) == ("running", "one", 1, 1) for each in more)
    assert all(before + 30.0 <= each.lease_until <= store.now() + 30.0 for each in more)
    assert [store.get(each.id) for each in more] == more
    assert store.claim_more("one", 30.0, alike, 0, 32) == []
    # Those that were passed over have not lost their places.
    assert drained(store) == [added[2], added[4], added[5]]
    assert store.claim_more("one", 30.0, alike, 9, 32) == []


def test_claim_more_looks_at_a_bounded_number_of_jobs(store: Blocking) -> None:
    added = ids(store.add([job(plan=plan) for plan in (OTHER, OTHER, PLAN, PLAN)]))
    assert store.claim_more("one", 30.0, alike, 9, 2) == []
    assert ids(store.claim_more("one", 30.0, alike, 9, 3)) == [added[2]]
    late = store.add([job(expires_at=1.0)])[0]
    assert ids(store.claim_more("one", 30.0, alike, 9, [late.id, added[3], new_id("job")])) == [added[3]]
    assert drained(store) == added[:2]


def test_an_owner_arriving_later_waits_behind_a_claimed_batch(store: Blocking) -> None:
    many = ids(store.add([job(owner="a") for _ in range(4)]))
    assert store.claim("one", 30.0) is not None
    assert ids(store.claim_more("one", 30.0, alike, 2, 32)) == many[1:3]
    late = ids(store.add([job(owner="b") for _ in range(2)]))
    assert drained(store) == [many[3], late[0], late[1]]


def test_jobs_claimed_out_of_order_do_not_delay_later_owners(store: Blocking) -> None:
    many = ids(store.add([job(owner="a", plan=plan) for plan in (PLAN, OTHER, OTHER, PLAN)]))
    assert store.claim("one", 30.0) is not None
    assert ids(store.claim_more("one", 30.0, alike, 9, 32)) == [many[3]]
    late = ids(store.add([job(owner="b")]))
    assert drained(store) == [many[1], late[0], many[2]]


def test_parallel_claims_of_more_never_overlap(store: Blocking, another: Another) -> None:
    added = ids(store.add([job(owner=f"o{i % 3}") for i in range(40)]))

    def all_of(face: Blocking) -> list[str]:
        found: list[str] = []
        while (first := face.claim("one", 60.0)) is not None:
            found += [first.id, *ids(face.claim_more("one", 60.0, alike, 3, 32))]
        return found

    with Blocking(another()) as other, ThreadPoolExecutor(6) as threads:
        found = list(threads.map(all_of, [store, other] * 3))
    assert sorted(sum(found, [])) == sorted(added)
    assert {each.attempt for each in store.find(Query(limit=100))} == {1}
