"""What every store finds: jobs that are marked."""

from __future__ import annotations

from tests.store.examples import job

from flickbook.store.base import Job, Note, Query, new_id
from flickbook.store.blocking import Blocking


def ids(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def test_find_gives_those_that_have_a_note(store: Blocking) -> None:
    added = ids(store.add([job(owner="ab"[i % 2]) for i in range(6)]))
    for id in (added[0], added[1], added[4], new_id("job")):
        store.put(Note(kind="mark", id=id))
    store.put(Note(kind="other", id=added[2]))
    assert ids(store.find(Query(noted="mark"))) == [added[4], added[1], added[0]]
    assert ids(store.find(Query(noted="mark", owner="a", states=("queued",)))) == [added[4], added[0]]
    assert ids(store.find(Query(noted="mark", after=added[4], limit=1))) == [added[1]]
    assert ids(store.find(Query(noted="mark", after=added[0], order="old"))) == [added[1], added[4]]
    assert store.find(Query(noted="mark", states=("failed",))) == store.find(Query(noted="none")) == []
    store.drop("mark", added[4])
    assert ids(store.find(Query(noted="mark"))) == [added[1], added[0]]
