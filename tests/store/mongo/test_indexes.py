"""Every query of the MongoDB store can use one of its indexes.

The commands are those that the store sends, read on their way to the server. They are compared with the indexes that
the store declares: this says what a server can do, not what its planner chooses. That would need MongoDB itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from tests.blocking import Blocking
from tests.store.examples import job
from tests.store.mongo_front import front
from tests.store.mongo_server import database, shared

from flickbook.store.base import DONE, KEY, STATES, Note, Query
from flickbook.store.mongo import schema
from flickbook.store.mongo.store import MongoStore

Sort = Sequence[tuple[str, int]]
#: Collections of a few documents, which are read whole at times.
SMALL = frozenset({"batches", "owners", "meta", "secrets"})
#: The first fields of indexes under which there are few documents, so that these may be sorted in memory.
FEW = frozenset({"leader", "worker", "keyed", "kind"})


def indexes(collection: str) -> list[Sort]:
    models = {"jobs": schema.JOBS, "notes": schema.NOTES, "buckets": schema.BUCKETS}[collection]
    return [list(model.document["key"].items()) for model in models]


def conditions(filter: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions on fields that all matches fulfil. Alternatives are left out, unless all name `_id`."""
    found: dict[str, Any] = {}
    for name, value in filter.items():
        if name == "$and":
            for each in value:
                found |= conditions(each)
        elif name == "$or":
            if all("_id" in conditions(each) for each in value):
                found["_id"] = {"$in": value}
        else:
            found[name] = value
    return found


def is_fixed(value: Any) -> bool:
    return not isinstance(value, Mapping) or set(value) == {"$in"}


def is_served(collection: str, filter: Mapping[str, Any], sort: Sort, limited: bool) -> bool:
    """Whether an index finds what matches a filter, in the order of `sort` if only the first ones are read."""
    known = conditions(filter)
    if is_fixed(known.get("_id", {})) or collection in SMALL:
        return True
    for index in indexes(collection):
        fixed = 0
        while fixed < len(index) and index[fixed][0] in known and is_fixed(known[index[fixed][0]]):
            fixed += 1
        behind = index[fixed:]
        ranged = bool(behind) and behind[0][0] in known
        turns = [(name, -way) for name, way in behind]
        in_order = list(sort) in (behind[: len(sort)], turns[: len(sort)])
        if sort and limited and not (fixed and index[0][0] in FEW):
            if in_order:
                return True
        elif fixed or ranged:
            return True
    return False


def queries(commands: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any], Sort, bool]]:
    """The collection, filter, sort, and whether only the first matches are read, of each command that searches."""
    for command in commands:
        name = next(iter(command))
        collection = command[name]
        if name == "find":
            yield collection, command["filter"], list(command.get("sort", {}).items()), "limit" in command
        elif name == "findAndModify":
            yield collection, command["query"], list(command.get("sort", {}).items()), True
        elif name in ("update", "delete"):
            for each in command.get(f"{name}s", ()):
                yield collection, each["q"], (), False
        elif name == "aggregate":
            yield collection, command["pipeline"][0]["$match"], (), False
        elif name == "distinct":
            yield collection, command["query"], (), False


def everything(store: Blocking) -> None:
    """Calls every method of the store that searches, with every kind of query."""
    added = store.add([job(owner="a", leader="lead", key="once"), job(owner="a"), job(owner="b"), job(owner="b")])
    store.add([job(owner="a", key="once")])
    store.claim("one", 30.0)
    store.claim("one", 30.0, id=added[1].id)
    store.claim_more("one", 30.0, lambda _: True, 2, 32)
    store.claim_more("one", 30.0, lambda _: True, 2, [added[2].id])
    store.renew(added[0].id, 1, 30.0, 0.5)
    store.settle(added[0].id, 1, {"state": "completed", "finished_at": 5.0})
    more = store.add([job(owner="c"), job(owner="c")])
    store.change(more[0].id, ("queued",), {"priority": 1})
    store.change(more[0].id, ("queued",), {"priority": 0})
    store.reorder(more[0].id, None)
    store.remove(more[0].id, STATES)
    for owner in (None, "a"):
        for states in ((), ("queued",), ("queued", "paused"), ("running",), DONE):
            for order in ("new", "old"):
                store.find(Query(owner=owner, states=states, order=order))
            store.find(Query(owner=owner, states=states, kinds=("film",), after=added[0].id))
        store.find(Query(owner=owner, states=("queued",), order="queue"))
        store.find(Query(owner=owner, text="circle"))
        store.find(Query(owner=owner, noted="favourite"))
        store.find(Query(owner=owner, finished_since=1.0))
        store.counts(owner)
    store.find(Query(leader="lead"))
    store.find(Query(states=("running",), worker="one"))
    store.lapsed()
    store.spent("a", 1.0)
    store.put(Note(kind=KEY, id="k", owner="a", due=1.0))
    store.put_new(Note(kind=KEY, id="k"))
    for how in ({}, {"owner": "a"}, {"due": 9.0}, {"ids": ["k"]}):
        store.notes(KEY, **how)
    store.drop(KEY, "k")
    store.take("bucket", 1, 5, 60.0)
    store.take("bucket", 9, 5, 60.0)
    store.secret("name")


@pytest.fixture(scope="module")
def commands() -> Iterator[list[dict[str, Any]]]:
    """What the store sends."""
    with database(shared().url()) as url, front(shared().port) as door:
        with Blocking(MongoStore(door.url(url.rpartition("/")[2]))) as store:
            everything(store)
        yield door.commands


def test_every_query_can_use_an_index(commands: list[dict[str, Any]]) -> None:
    found = list(queries(commands))
    assert {name for name, *_ in found} >= {"jobs", "notes", "buckets", "batches", "owners", "meta", "secrets"}
    missing = [query for query in found if not is_served(*query)]
    assert not missing, "\n".join(["add an index to store/mongo/schema.py", *map(str, missing)])


def test_a_query_without_index_is_noticed() -> None:
    assert not is_served("jobs", {"seconds": 1.0}, (), False)
    assert not is_served("jobs", {"state": "queued"}, [("created_at", 1)], True)
    assert not is_served("jobs", {"$or": [{"owner": "a"}, {"state": "queued"}]}, (), False)
    assert is_served("jobs", {"$and": [{"state": "queued"}, {"home": "queue", "batch": ""}]}, schema.QUEUE, True)
