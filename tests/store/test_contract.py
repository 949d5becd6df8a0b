"""What every store does, whatever it is made of."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.blocking import Blocking
from tests.patience import until
from tests.store.examples import PLAN, Another, drained, ids, job

from flickbook.errors import FlickbookError, RequestError
from flickbook.spec import Request
from flickbook.store.base import DONE, Job, Note, Query, Result, State, new_id

LATER = 4_000_000_000.0
ANY: tuple[State, ...] = ("queued", "running", "paused", *DONE)


def claimed(store: Blocking, seconds: float = 60.0, **fields: object) -> Job:
    """A new job that is running."""
    added = store.add([job(**fields)])[0]
    found = store.claim("one", seconds, added.id)
    assert found is not None
    return found


def test_an_added_job_is_returned_unchanged(store: Blocking) -> None:
    whole = job(
        owner="key_1",
        kind="extension",
        request=Request(prompt="é\n🎬\x00", loras=(("a.safetensors", 0.5),)),
        networks={"upscaler": "0" * 64},
        result=Result(path="x.mp4", bytes=2**40, sha256="f" * 64),
        reached=0.1 + 0.2,
        priority=-100,
        expires_at=LATER,
        error="a\tb é 🎬 \x00 'quoted'",
        key="k",
    )
    before = time.time()
    added = store.add([whole])[0]
    assert before - 1 <= added.created_at <= time.time() + 1
    set_here = {"turn": added.turn, "position": added.position, "created_at": added.created_at}
    assert added == whole.model_copy(update=set_here)
    assert store.get(whole.id) == added
    assert store.find(Query()) == [added]
    assert store.get(new_id("job")) is None


def test_add_stores_all_jobs_or_none(store: Blocking) -> None:
    first = job()
    with pytest.raises(FlickbookError):
        store.add([first, job(), first])
    assert store.find(Query()) == []
    assert store.add([]) == []


def test_a_key_identifies_one_job_per_owner(store: Blocking, another: Another) -> None:
    mine = store.add([job(owner="a", key="k")])[0]
    assert store.add([job(owner="a", key="k"), job(owner="b", key="k")])[0] == mine
    assert len(store.add([job(owner="a"), job(owner="a")])) == 2  # no key is no name
    twice = store.add([job(owner="c", key="k"), job(owner="c", key="k")])
    assert twice[0] == twice[1]
    assert store.counts()["queued"] == 5
    with Blocking(another()) as other, ThreadPoolExecutor(8) as threads:
        faces = [store, other] * 8
        found = list(threads.map(lambda face: face.add([job(owner="d", key="k")])[0].id, faces))
    assert len(set(found)) == 1


def test_find_filters_and_pages(store: Blocking) -> None:
    added = [store.add([job(owner="ab"[i % 2], kind="draft" if i > 3 else "film")])[0] for i in range(6)]
    batch = store.add([job(owner="c", leader="job_x") for _ in range(4)])
    everything = ids(added) + ids(batch)
    assert ids(store.find(Query(order="old"))) == everything
    assert ids(store.find(Query())) == everything[::-1]
    assert ids(store.find(Query(limit=3))) == everything[:-4:-1]
    assert ids(store.find(Query(limit=3, after=everything[4]))) == everything[3:0:-1]
    assert ids(store.find(Query(limit=3, after=everything[4], order="old"))) == everything[5:8]
    assert store.find(Query(after=everything[0])) == []
    assert ids(store.find(Query(owner="a", order="old"))) == ids(added[::2])
    assert ids(store.find(Query(owner="a", kinds=("draft",)))) == [added[4].id]
    assert ids(store.find(Query(leader="job_x", order="old"))) == ids(batch)
    assert len(store.find(Query(leader=""))) == 6
    running = store.claim("one", 60.0)
    assert running is not None
    assert ids(store.find(Query(worker="one"))) == ids(store.find(Query(states=("running", "failed")))) == [running.id]
    assert store.find(Query(states=("failed",))) == []


def test_owners_take_turns(store: Blocking) -> None:
    many = ids(store.add([job(owner="a") for _ in range(4)]))
    few = ids(store.add([job(owner="b") for _ in range(2)]))
    urgent = ids(store.add([job(owner="c", priority=1)]))
    low = ids(store.add([job(owner="c", priority=-1)]))
    expected = [*urgent, many[0], few[0], many[1], few[1], many[2], many[3], *low]
    assert ids(store.find(Query(states=("queued",), order="queue"))) == expected
    assert drained(store) == expected


def test_an_owner_arriving_later_waits_one_turn(store: Blocking) -> None:
    many = ids(store.add([job(owner="a") for _ in range(5)]))
    assert [store.claim("one", 60.0).id for _ in range(3)] == many[:3]  # type: ignore[union-attr]
    late = ids(store.add([job(owner="b") for _ in range(2)]))
    assert drained(store) == [many[3], late[0], many[4], late[1]]
    # Nor does the one who has had much wait for what others had before.
    assert drained(store) == []
    again = store.add([job(owner="a"), job(owner="b")])
    assert drained(store) == ids(again)


def test_a_claim_takes_the_job_under_a_lease(store: Blocking) -> None:
    assert store.claim("one", 30.0) is None
    added = store.add([job()])[0]
    before = store.now()
    found = store.claim("one", 30.0)
    assert found is not None
    assert (found.id, found.state, found.worker, found.attempt, found.stalls) == (added.id, "running", "one", 1, 1)
    assert before + 30.0 <= found.lease_until <= store.now() + 30.0
    assert store.get(added.id) == found
    assert store.claim("two", 30.0) is None
    assert store.claim("two", 30.0, added.id) is None
    assert store.lapsed() == []


def test_a_job_can_be_claimed_by_id(store: Blocking) -> None:
    first, second = store.add([job(), job()])
    found = store.claim("one", 30.0, second.id)
    assert found is not None and found.id == second.id
    paused = store.settle(second.id, 1, {"state": "paused", "wanted": "pause"})
    assert paused is not None
    assert [store.claim("one", 30.0).id, store.claim("one", 30.0)] == [first.id, None]  # type: ignore[union-attr]
    again = store.claim("two", 30.0, second.id)
    assert again is not None
    assert (again.state, again.attempt, again.stalls, again.wanted, again.worker) == ("running", 2, 2, "", "two")
    done = store.settle(second.id, 2, {"state": "completed"})
    assert done is not None and store.claim("one", 30.0, second.id) is None
    assert store.claim("one", 30.0, new_id("job")) is None


def test_a_job_of_a_command_is_claimed_only_by_id(store: Blocking) -> None:
    own = store.add([job(home="command")])[0]
    assert store.claim("one", 30.0) is None
    found = store.claim("one", 30.0, own.id)
    assert found is not None and found.id == own.id


def test_expired_jobs_are_not_claimed(store: Blocking) -> None:
    late, fine = store.add([job(expires_at=1.0), job(expires_at=LATER)])
    assert store.claim("one", 30.0, late.id) is None
    assert drained(store) == [fine.id]
    assert store.lapsed() == [late]
    paused = store.change(late.id, ("queued",), {"state": "paused"})
    assert store.lapsed() == [paused]
    store.change(late.id, ("paused",), {"state": "expired"})
    assert store.lapsed() == []


def test_a_renewed_lease_is_extended(store: Blocking) -> None:
    running = claimed(store, seconds=-1.0)
    assert store.lapsed() == [running]
    found = store.renew(running.id, 1, 60.0, 0.0)
    assert found is not None and found.lease_until > store.now() + 30.0
    assert (found.stalls, found.reached) == (1, 0.0)
    assert store.lapsed() == []
    found = store.renew(running.id, 1, 60.0, 0.5)
    assert found is not None and (found.stalls, found.reached) == (0, 0.5)
    assert store.get(running.id) == found
    store.settle(running.id, 1, {"state": "queued"})
    assert store.renew(running.id, 1, 60.0, 0.9) is None
    again = store.claim("two", 60.0)
    assert again is not None and (again.stalls, again.reached) == (1, 0.5)
    # The second attempt is not further than the first was: it may yet stall.
    found = store.renew(running.id, 2, 60.0, 0.3)
    assert found is not None and (found.stalls, found.reached) == (1, 0.5)
    assert store.renew(new_id("job"), 1, 60.0, 0.5) is None


def test_a_stale_token_changes_nothing(store: Blocking) -> None:
    running = claimed(store, seconds=-1.0)
    assert store.settle(running.id, 1, {"state": "queued", "worker": ""}, lapsed=True) is not None
    again = store.claim("two", 60.0)
    assert again is not None and again.attempt == 2
    assert store.settle(running.id, 1, {"state": "completed"}) is None
    assert store.renew(running.id, 1, 60.0, 1.0) is None
    assert store.get(running.id) == again
    done = store.settle(running.id, 2, {"state": "completed", "result": Result(path="x.mp4"), "seconds": 2})
    assert done is not None and done.result == Result(path="x.mp4") and done.seconds == 2.0
    for attempt in (1, 2, 3):
        assert store.settle(running.id, attempt, {"state": "failed"}) is None
        assert store.renew(running.id, attempt, 60.0, 1.0) is None
    assert store.get(running.id) == done


def test_only_expired_leases_are_released(store: Blocking) -> None:
    running = claimed(store)
    assert store.settle(running.id, 1, {"state": "queued"}, lapsed=True) is None
    assert store.get(running.id) == running
    over = [claimed(store, seconds=-float(i)) for i in range(1, 4)]
    assert {each.id for each in store.lapsed()} == set(ids(over))
    assert len(store.lapsed(limit=2)) == 2


def test_a_change_requires_the_expected_state(store: Blocking) -> None:
    added = store.add([job()])[0]
    assert store.change(added.id, ("running", "paused"), {"wanted": "cancel"}) is None
    assert store.change(new_id("job"), ANY, {"wanted": "cancel"}) is None
    assert store.get(added.id) == added
    found = store.change(added.id, ("queued",), {"state": "cancelled", "finished_at": 5, "error": "é"})
    assert found == added.model_copy(update={"state": "cancelled", "finished_at": 5.0, "error": "é"})
    assert store.get(added.id) == found


@pytest.mark.parametrize("changes", [{"colour": "red"}, {"state": "lost"}, {"priority": 101}, {"reached": 2.0}])
def test_a_change_that_is_no_valid_job_is_refused(store: Blocking, changes: dict[str, object]) -> None:
    added = store.add([job()])[0]
    with pytest.raises(RequestError) as caught:
        store.change(added.id, ("queued",), changes)
    assert caught.value.field == next(iter(changes))
    assert store.get(added.id) == added


def test_changing_the_priority_changes_the_order(store: Blocking) -> None:
    first, second = ids(store.add([job(), job()]))
    assert store.change(second, ("queued",), {"priority": 5}) is not None
    assert drained(store) == [second, first]


def test_a_removed_job_is_gone(store: Blocking) -> None:
    added = store.add([job(key="k")])[0]
    assert store.remove(added.id, DONE) is None
    assert store.remove(added.id, ("queued",)) == added
    assert store.get(added.id) is None
    assert store.remove(added.id, ANY) is None
    assert store.add([job(key="k")])[0].id != added.id


def test_reordering_does_not_move_other_owners(store: Blocking) -> None:
    mine = ids(store.add([job(owner="a") for _ in range(4)]))
    other = ids(store.add([job(owner="b") for _ in range(4)]))

    def order() -> list[str]:
        return ids(store.find(Query(states=("queued",), order="queue")))

    assert order() == [mine[0], other[0], mine[1], other[1], mine[2], other[2], mine[3], other[3]]
    found = store.reorder(mine[3], mine[1])
    assert found == store.get(mine[3])
    assert order() == [mine[0], other[0], mine[3], other[1], mine[1], other[2], mine[2], other[3]]
    store.reorder(mine[0], None)
    assert order() == [mine[3], other[0], mine[1], other[1], mine[2], other[2], mine[0], other[3]]
    before = order()
    assert store.reorder(mine[0], other[0]) is None
    assert store.reorder(mine[0], new_id("job")) is None
    assert store.reorder(new_id("job"), None) is None
    store.claim("one", 60.0, mine[1])
    assert store.reorder(mine[0], mine[1]) is None and store.reorder(mine[1], None) is None
    assert order() == [each for each in before if each != mine[1]]


def test_counts_and_device_seconds_per_owner(store: Blocking) -> None:
    assert store.counts() == dict.fromkeys(ANY, 0)
    store.add([job(owner="a", seconds=1.0), job(owner="b", seconds=32.0)])
    for number, (state, finished) in enumerate([("failed", 100.0), ("completed", 200.0)]):
        running = claimed(store, owner="a")
        changes = {"state": state, "seconds": 2.0 + 2 * number, "finished_at": finished}
        assert store.settle(running.id, 1, changes) is not None
    claimed(store, owner="a")
    assert store.counts("a") == dict.fromkeys(ANY, 0) | {"queued": 1, "failed": 1, "completed": 1, "running": 1}
    assert store.counts()["queued"] == 2 and store.counts("nobody") == dict.fromkeys(ANY, 0)
    assert [store.spent("a", since) for since in (0.0, 150.0, 200.0, 201.0)] == [7.0, 5.0, 5.0, 1.0]
    assert store.spent("nobody", 0.0) == 0.0


def test_notes_are_stored_filtered_and_dropped(store: Blocking) -> None:
    assert store.note("key", "a") is None and store.notes("key") == [] and not store.drop("key", "a")
    notes = [
        Note(kind="key", id="b", owner="x", body='{"a":"é"}'),
        Note(kind="key", id="a", owner="y", due=50.0),
        Note(kind="key", id="c", owner="y", due=150.5),
        Note(kind="hook", id="a", owner="x", due=50.0),
    ]
    for each in notes:
        store.put(each)
    assert store.note("key", "b") == notes[0]
    fresh = Note(kind="once", id="b", body='{"a":1}')
    assert store.put_new(fresh) is None and store.note("once", "b") == fresh
    assert store.put_new(fresh.model_copy(update={"body": "{}"})) == fresh == store.note("once", "b")
    assert [each.id for each in store.notes("key")] == ["a", "b", "c"]
    assert [each.id for each in store.notes("key", owner="y")] == ["a", "c"]
    # What has no time wants no attention.
    assert [each.id for each in store.notes("key", due=100.0)] == ["a"]
    assert [each.id for each in store.notes("key", owner="y", due=1000.0)] == ["a", "c"]
    assert [each.id for each in store.notes("key", ids=["c", "b", "none"])] == ["b", "c"]
    assert store.notes("key", owner="x", ids=["a"]) == store.notes("key", ids=[]) == []
    store.put(Note(kind="key", id="a", owner="z", due=1.0, body="[]"))
    assert store.note("key", "a") == Note(kind="key", id="a", owner="z", due=1.0, body="[]")
    assert store.drop("key", "a") and store.note("key", "a") is None
    assert store.note("hook", "a") == notes[3]


def test_a_bucket_holds_its_limit_in_each_window(store: Blocking) -> None:
    now = store.now()
    granted, ends = store.take("a", 3, 5, 60.0)
    assert granted == 3 and now + 60.0 <= ends <= store.now() + 60.0
    for expected in (2, 0):
        granted, still = store.take("a", 3, 5, 60.0)
        assert granted == expected and abs(still - ends) < 0.01
    assert store.take("b", 1, 5, 60.0)[0] == 1
    assert store.take("c", 4, 0, 60.0)[0] == 0
    assert store.take("a", 1, 3, 60.0)[0] == 0, "a limit that is lowered within a window gives nothing back"
    granted, ends = store.take("short", 9, 5, 0.05)
    assert granted == 5
    until(lambda: store.now() >= ends)
    assert store.take("short", 9, 5, 0.05)[0] == 5


def test_parallel_takes_never_exceed_the_limit(store: Blocking, another: Another) -> None:
    with Blocking(another()) as other, ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(lambda face: face.take("a", 3, 50, 600.0)[0], [store, other] * 16))
    assert sum(granted) == 50


def test_a_store_stays_protected_after_its_last_key(store: Blocking, another: Another) -> None:
    assert not store.protected()
    store.protect("k1", "laptop")
    store.protect("k1", "laptop", 5.0)
    with Blocking(another()) as other:
        assert other.protected() and other.notes("key") == []
        other.release()
    assert not store.protected()
    # Keys of a store from before there was such a record count when it is opened.
    store.put(Note(kind="key", id="k2", body='{"name": "ci"}'))
    with Blocking(another()):
        assert store.protected()


def test_a_secret_is_created_once(store: Blocking, another: Another) -> None:
    found = store.secret("links")
    assert len(bytes.fromhex(found)) == 32
    with Blocking(another()) as other:
        assert other.secret("links") == found
    assert store.secret("hooks") != found


def test_a_reopened_store_has_everything(store: Blocking, another: Another) -> None:
    running = claimed(store, key="k")
    store.put(Note(kind="key", id="a", body=json.dumps({"a": 1})))
    store.take("a", 3, 5, 600.0)
    with Blocking(another()) as other:
        assert other.get(running.id) == running
        assert other.renew(running.id, 1, 60.0, 0.5) is not None
        assert other.note("key", "a") is not None
        assert other.take("a", 3, 5, 600.0)[0] == 2
        assert abs(other.now() - store.now()) < 5.0
        assert other.check() == []
    found = store.get(running.id)
    assert found is not None and found.reached == 0.5 and found.plan == PLAN


def test_parallel_claims_never_return_the_same_job(store: Blocking, another: Another) -> None:
    added = ids(store.add([job(owner=f"o{i % 3}") for i in range(60)]))
    with Blocking(another()) as other, ThreadPoolExecutor(6) as threads:
        found = list(threads.map(drained, [store, other] * 3))
    assert sorted(sum(found, [])) == sorted(added)
    assert store.counts()["running"] == 60


def test_closing_twice_is_allowed(another: Another) -> None:
    store = Blocking(another())
    with store:
        assert store.title
    store.close()
    with store:
        assert store.counts()["queued"] == 0
