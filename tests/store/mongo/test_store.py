"""What only the MongoDB store promises. Its server here is nx-27017; see mongo_server.py."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient
from tests.blocking import Blocking
from tests.store.examples import job
from tests.store.mongo_front import front
from tests.store.mongo_server import database, running, shared

from flickbook.errors import StoreError
from flickbook.store.base import Note, Query
from flickbook.store.mongo import batch as mongo_batch
from flickbook.store.mongo.connection import ASTRAY, STRIDE, ServerClock
from flickbook.store.mongo.store import MongoStore
from flickbook.store.mongo.url import MongoUrl

SECRET = "Xq7-geheim-Zp9"
ALL = Query(limit=1000)
#: The driver waits half a second for a new primary; 200 were tried once.
ELECTIONS = 10
#: What parts an address is more likely than chance.
AROUND = st.text(st.one_of(st.sampled_from("@:/?#%,&=[]"), st.characters()), max_size=4)


@pytest.fixture
def url() -> Iterator[str]:
    with database(shared().url()) as url:
        yield url


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("mongodb://localhost", "mongodb://localhost/flickbook", "flickbook"),
        ("mongodb://u:p@a.b:27018,c.d/films?replicaSet=rs0", "mongodb://a.b:27018,c.d/films", "films"),
        ("mongodb+srv://u:p%40@c0.x.net/?w=majority&appName=C0", "mongodb+srv://c0.x.net/flickbook", "flickbook"),
        ("mongodb://[::1]:27017/x", "mongodb://[::1]:27017/x", "x"),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/x", "mongodb://%2Ftmp%2Fmongodb-27017.sock/x", "x"),
    ],
)  # fmt: skip
def test_an_address_is_parsed_and_shown_without_its_password(text: str, shown: str, name: str) -> None:
    address = MongoUrl.read(text)
    assert (address.text, address.shown, address.database) == (text, shown, name)
    assert MongoStore(text).title == f"MongoDB protocol, {shown}"


@pytest.mark.parametrize(
    "text", ["", "sqlite:///x", "mongodb://", "mongodb:///x", "mongodb://a b/x", "mongodb://h/a.b"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="^mongodb://…: "):
        MongoStore(text)


@pytest.mark.slow
@settings(max_examples=50)
@given(before=AROUND, after=AROUND, raw=st.booleans(), place=st.sampled_from("upo"))
@example(before="a@", after="?", raw=True, place="u")
@example(before="a@b/", after="", raw=True, place="u")
@example(before="a@b,", after=":1/", raw=True, place="p")
def test_passwords_never_appear_in_messages_or_logs(before: str, after: str, raw: bool, place: str) -> None:
    password = before + SECRET + after
    try:
        written = password if raw else quote_plus(password)
        text = {
            "u": f"mongodb://flick:{written}@127.0.0.1:1/x?serverSelectionTimeoutMS=1",
            "p": f"mongodb://flick:{written}@[::1]:1,127.0.0.1:1/?tls=true&serverSelectionTimeoutMS=1",
            "o": f"mongodb://h/x?tls=true&tlsCertificateKeyFilePassword={written}&serverSelectionTimeoutMS=1",
        }[place]
    except UnicodeEncodeError:
        return
    printed = ""
    try:
        store = MongoStore(text)
        printed = f"{store!r} {store.title} {store._link!r} {store._link.address!r}"
        store._link._client()
    except StoreError as error:
        printed += "".join(traceback.format_exception(error)) + repr(error)
    except Exception as error:
        with pytest.raises(StoreError) as found, MongoStore(text)._link.translated_errors():
            raise error
        printed += str(found.value) + repr(found.value)
    assert SECRET not in printed


def test_an_unreachable_server_is_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = MongoStore(f"mongodb://flick:{SECRET}@127.0.0.1:1/x?serverSelectionTimeoutMS=200")
    with pytest.raises(StoreError) as found:
        asyncio.run(store.open())
    assert str(found.value).startswith("mongodb://127.0.0.1:1/x: is unreachable: no response within 0.2 s; ")
    assert "\n" not in str(found.value)
    assert SECRET not in "".join(traceback.format_exception(found.value)) + caplog.text
    assert found.value.__suppress_context__


@pytest.mark.parametrize("option", ["tls=yes", "w=many&journal=perhaps", "serverSelectionTimeoutMS=soon", "nonsense=1"])
def test_an_unknown_option_is_refused(url: str, option: str) -> None:
    with pytest.raises(StoreError, match="cannot be understood by the driver"):
        asyncio.run(MongoStore(f"{url}?{option}").open())


def test_unrelated_warnings_do_not_refuse_the_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def amid_warnings(*arguments: Any, **options: Any) -> AsyncMongoClient[Any]:
        socket.socket()  # collected at once, and Python warns of it
        warnings.warn("of another thread", stacklevel=1)
        return AsyncMongoClient(*arguments, **options)

    monkeypatch.setattr("flickbook.store.mongo.connection.AsyncMongoClient", amid_warnings)
    with Blocking(MongoStore(url)) as store:
        assert store.find(ALL) == []
    with pytest.raises(StoreError, match="cannot be understood by the driver"):
        asyncio.run(MongoStore(f"{url}?nonsense=1").open())


def test_write_concerns_that_a_crash_may_undo_are_refused(url: str) -> None:
    with Blocking(MongoStore(f"{url}?w=1")):
        pass
    for option in ("w=0", "journal=false"):
        with pytest.raises(StoreError, match=f"uses {option}"):
            asyncio.run(MongoStore(f"{url}?{option}").open())
    with front(shared().port) as door:
        for option in ("w=1", "w=0", "w=2", "journal=false"):
            with pytest.raises(StoreError, match=f"uses {option}.*; (write w=majority|leave journal)"):
                asyncio.run(MongoStore(f"{door.url(name_of(url))}?{option}").open())
        with Blocking(MongoStore(f"{door.url(name_of(url))}?w=majority&journal=true")) as store:
            assert "replica set rs0" in store.title


def test_a_replica_set_is_used_with_majority_concerns(url: str) -> None:
    with front(shared().port) as door:
        with Blocking(MongoStore(f"{door.url(name_of(url))}?readPreference=secondary&readConcernLevel=local")) as store:
            door.commands.clear()
            first, second = store.add([job(key="k"), job()])
            assert store.claim("one", 30.0) == store.get(first.id)
            assert store.settle(first.id, 1, {"state": "completed"}) is not None
            store.reorder(second.id, None)
            store.put(Note(kind="key", id="1"))
            store.take("bucket", 1, 2, 60.0)
            store.secret("links")
            assert store.counts()["queued"] == 1 and store.remove(second.id, ("queued",)) is not None
        writes = [each for each in door.commands if {"insert", "update", "delete", "findAndModify"} & set(each)]
        # Counters are carried by the majority of what is counted.
        writes = [each for each in writes if not {"meta", "owners"} & {each[next(iter(each))]}]
        reads = [each for each in door.commands if {"find", "aggregate"} & set(each)]
        reads = [each for each in reads if not {"meta", "owners"} & {each[next(iter(each))]}]
        assert len(writes) >= 8 and len(reads) >= 8
        for each in writes:
            assert (each["writeConcern"]["w"], each["writeConcern"]["j"]) == ("majority", True), each
        for each in reads:
            assert each["readConcern"] == {"level": "majority"}, each
            assert each.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}


def test_small_clock_corrections_are_gradual_and_large_ones_immediate() -> None:
    clock = ServerClock()
    clock.take(0.0, 0.2, 1000.1)
    assert clock.offset == 1000.0
    clock.take(60.0, 60.0, 1070.0)
    assert clock.offset == 1000.0 + STRIDE
    clock.take(60.0, 60.0, 1060.4)
    assert clock.offset == pytest.approx(1000.4)
    clock.take(60.0, 60.0, 1060.0 - ASTRAY - 1.0)
    assert clock.offset == pytest.approx(1000.0 - ASTRAY - 1.0)


def test_leases_do_not_depend_on_the_local_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    with Blocking(MongoStore(url)) as store:
        store.add([job()])
        # The offset to the server's clock is measured while the store opens, so it is off by that time at most.
        now, lasted = store.now(), time.time() - began
        assert began - lasted <= now <= began + 2 * lasted
        monkeypatch.setattr(time, "time", lambda: 4e9)
        running = store.claim("one", 30.0)
        assert running is not None and running.lease_until < 3e9
        assert store.lapsed() == []


def test_a_newer_schema_is_refused(url: str) -> None:
    with Blocking(MongoStore(url)) as store:
        store.add([job()])
    client: MongoClient[dict[str, object]] = MongoClient(url)
    client.get_default_database()["meta"].update_one({"_id": "schema"}, {"$set": {"number": 99}})
    client.close()
    with pytest.raises(StoreError, match="has schema 99.*; update Flickbook"):
        asyncio.run(MongoStore(url).open())


def test_a_store_can_be_reopened_on_another_event_loop(url: str) -> None:
    store = MongoStore(url)
    asyncio.run(store.open())
    kept = asyncio.run(store.add([job()]))
    assert asyncio.run(store.find(ALL)) == kept
    asyncio.run(store.close())
    asyncio.run(store.close())
    with pytest.raises(StoreError, match="is not open"):
        asyncio.run(store.find(ALL))


# The mark, the jobs, the mark again, and what follows; the others come before or behind them.
@pytest.mark.parametrize(
    "left", [pytest.param(left, marks=[] if left in (10, 11, 12, 13) else pytest.mark.slow) for left in range(17)]
)
def test_an_interrupted_add_stores_all_jobs_or_none(url: str, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    three = [job(owner="a"), job(owner="a", key="k"), job(owner="b")]
    with front(shared().port) as door:
        writer = Blocking(MongoStore(f"{door.url(name_of(url))}?serverSelectionTimeoutMS=300"))
        with writer, Blocking(MongoStore(url)) as reader:
            door.left = left
            try:
                writer.add(three)
                confirmed = True
            except StoreError:
                confirmed = False
            seen = {each.id for each in reader.find(ALL)}
            assert seen in (set(), {each.id for each in three})
            assert seen or not confirmed
            assert sum(reader.counts().values()) in (0, len(seen))
            # Who asked is told nothing, and asks again under the same key.
            monkeypatch.setattr(mongo_batch, "ABANDONED", 0.1)
            again = reader.add([job(owner="a", key="k")])[0]
            assert (again.id == three[1].id) == bool(seen)
            reader.lapsed()
            assert {each.id for each in reader.find(ALL)} == seen | {again.id}
            claims = [reader.claim("one", 30.0) for _ in range(len(seen | {again.id}) + 1)]
            assert {each.id for each in claims if each} == seen | {again.id}
            assert reader.check() == []
            door.left = None


def test_racing_adds_with_one_key_store_it_once_and_all_other_jobs(url: str) -> None:
    async def race() -> list[list[str]]:
        stores = [MongoStore(url) for _ in range(6)]
        for store in stores:
            await store.open()
        threes = [[job(owner="a"), job(owner="a", key="k"), job(owner="a")] for _ in stores]
        kept = await asyncio.gather(*(store.add(three) for store, three in zip(stores, threes, strict=True)))
        assert [[kept[0].id, kept[2].id] for kept in kept] == [[three[0].id, three[2].id] for three in threes]
        for store in stores:
            await store.close()
        return [[each.id for each in three] for three in kept]

    kept = asyncio.run(race())
    assert len({three[1] for three in kept}) == 1
    with Blocking(MongoStore(url)) as store:
        found = store.find(ALL)
        assert sorted(each.id for each in found) == sorted({id for three in kept for id in three})
        assert len({(each.turn, each.position) for each in found}) == 13
        assert store.check() == []


def test_an_unfinished_add_is_completed_or_discarded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Blocking(MongoStore(url)) as store, MongoClient(url) as client:
        raw = client.get_default_database()
        added = store.add([job(), job(), job()])
        for each, batch in zip(added, ("batch_shown", "batch_hidden", "batch_hidden"), strict=True):
            raw["jobs"].update_one({"_id": each.id}, {"$set": {"batch": batch}})
        raw["batches"].insert_one({"_id": "batch_hidden", "at": store.now(), "open": 1})
        assert store.find(ALL) == added[:1] and store.get(added[1].id) is None
        assert store.claim("one", 30.0, added[1].id) is None
        assert store.change(added[1].id, ("queued",), {"state": "paused"}) is None
        assert store.remove(added[1].id, ("queued",)) is None
        claimed = store.claim("one", 30.0, added[0].id)
        assert claimed is not None and store.counts()["queued"] == 0
        store.lapsed()
        assert raw["jobs"].count_documents({}) == 3
        monkeypatch.setattr(mongo_batch, "ABANDONED", -1.0)
        store.lapsed()
        assert raw["jobs"].count_documents({}) == 1


def test_racing_clients_claim_each_job_once(url: str) -> None:
    async def race() -> list[str]:
        stores = [MongoStore(url) for _ in range(8)]
        await stores[0].open()
        await stores[0].add([job(owner=f"o{index % 3}") for index in range(60)])
        await asyncio.gather(*(store.open() for store in stores[1:]))

        async def drain(store: MongoStore, worker: str) -> list[str]:
            found = []
            while (claimed := await store.claim(worker, 30.0)) is not None:
                assert (claimed.worker, claimed.attempt) == (worker, 1)
                found.append(claimed.id)
            return found

        drained = await asyncio.gather(*(drain(store, f"w{index}") for index, store in enumerate(stores)))
        assert sum(bool(each) for each in drained) > 1
        await asyncio.gather(*(store.close() for store in stores))
        return [id for each in drained for id in each]

    claimed = asyncio.run(race())
    assert len(claimed) == len(set(claimed)) == 60


@pytest.mark.slow
def test_acknowledged_writes_survive_a_server_kill(tmp_path: Path) -> None:
    async def work(store: MongoStore, added: set[str], claimed: list[str]) -> None:
        try:
            while True:
                added.update(each.id for each in await store.add([job(), job()]))
                found = await store.claim("one", 3600.0)
                claimed += [found.id] if found else []
        except StoreError as error:
            assert "unreachable" in str(error) or "broke the connection" in str(error), error

    async def cut(server_kill: float, store: MongoStore, added: set[str], claimed: list[str]) -> None:
        workers = [asyncio.create_task(work(store, added, claimed)) for _ in range(4)]
        await asyncio.sleep(server_kill)
        server.kill()
        await asyncio.gather(*workers)

    with running(tmp_path) as server:
        added: set[str] = set()
        claimed: list[str] = []
        for turn in range(2):
            store = MongoStore(f"{server.url()}?serverSelectionTimeoutMS=300")
            asyncio.run(store.open())
            asyncio.run(cut(0.3 + turn * 0.07, store, added, claimed))
            asyncio.run(store.close())
            server.start()
        with Blocking(MongoStore(server.url())) as after:
            found = {each.id: each for each in after.find(Query(limit=100_000))}
            assert added and claimed and added <= set(found)
            assert len(claimed) == len(set(claimed))
            assert all(found[id].state == "running" for id in claimed)
            assert after.check() == []


@pytest.mark.slow
def test_elections_lose_no_confirmed_change(url: str) -> None:
    """Every fifth command meets a primary that has just stepped down. The driver asks again; what it gives up on is an
    error, and what it confirms is there."""
    confirmed: list[str] = []
    with front(shared().port) as door, Blocking(MongoStore(door.url(name_of(url)))) as store:
        door.elections = ELECTIONS
        done: list[str] = []
        while door.elections:
            try:
                (added,) = store.add([job()])
                confirmed.append(added.id)
                claimed = store.claim("one", 30.0)
                assert claimed is not None
                if store.settle(claimed.id, claimed.attempt, {"state": "completed"}) is not None:
                    done.append(claimed.id)
            except StoreError as error:
                assert "\n" not in str(error)
        rows = {each.id: each for each in store.find(ALL)}
    assert len(done) == len(set(done)) and len(confirmed) > ELECTIONS // 4
    assert set(confirmed) <= set(rows)
    assert all(rows[id].state == "completed" for id in done)
