"""Jobs in MongoDB: one store for several hosts.

Every change is one update of one document, which the server makes atomically and a majority confirms. Changes of
several documents are ordered so that a crash between two of them loses nothing (batch.py). Neither transactions nor
update pipelines are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from pymongo import ReturnDocument

from flickbook.errors import RequestError, StoreError
from flickbook.spec import Plan, Request
from flickbook.store.base import DONE, STATES, Job, Query, Row, State, flat
from flickbook.store.mongo.batch import ABANDONED, Batches, Taken
from flickbook.store.mongo.connection import Document, MongoLink, tick
from flickbook.store.mongo.notes import Notes
from flickbook.store.mongo.queue_order import Order
from flickbook.store.mongo.schema import NEW, OLD, QUEUE, migrate
from flickbook.store.mongo.text_search import prompting
from flickbook.store.mongo.url import MongoUrl

WAITING: Final = [state for state in STATES if state not in DONE and state != "running"]
_AFTER: Final = ReturnDocument.AFTER
#: What workers may claim.
_WAITING: Final[Document] = {"state": "queued", "home": "queue", "batch": ""}
#: Fills the other fields of a job when only changes are validated.
_ANY: Final[dict[str, Any]] = {"id": "", "plan": Plan.model_construct(), "request": Request.model_construct()}


class MongoStore(Notes):
    """The Store on a MongoDB server, replica set or cluster, or another server that speaks its protocol.

    Raises StoreError for an invalid URL; no message, title or repr contains its password.
    """

    def __init__(self, url: str) -> None:
        address = MongoUrl.read(url)
        self.title = f"MongoDB protocol, {address.shown}"
        self._link = MongoLink(address)
        self._batches = Batches(self._link)
        self._order = Order(self._link, self._batches)

    def __repr__(self) -> str:
        return f"MongoStore({self._link.address.shown!r})"

    async def open(self) -> None:
        try:
            self.title = await self._link.open()
            await migrate(self._link)
            await self._adopt()
            await self._batches.mend()
        except BaseException:
            await self._link.close()
            raise

    async def close(self) -> None:
        await self._link.close()

    async def now(self) -> float:
        return await self._link.now()

    async def add(self, jobs: Sequence[Job]) -> list[Job]:
        patience = time.monotonic() + 3 * ABANDONED
        names = [_keyed(job.owner, job.key) if job.key else job.id for job in jobs]
        while True:
            existing = await self._existing([name for name, job in zip(names, jobs, strict=True) if job.key])
            fresh: dict[str, Job] = {}
            for name, job in zip(names, jobs, strict=True):
                if name in fresh and not job.key:
                    raise _known(job.id)
                if name not in existing:
                    fresh.setdefault(name, job)
            placed = await self._placed([*fresh.values()])
            try:
                await self._batches.insert([_row(job) for job in placed])
            except Taken:
                there = await self._batches.read({"_id": {"$in": [job.id for job in placed]}}, limit=1)
                if there:
                    raise _known(there[0]["_id"]) from None
                if time.monotonic() > patience:
                    reason = "is still storing a job of the same key"
                    raise StoreError(self._link.address.shown, reason, "ask again") from None
                # Another caller is adding a job with the same key, or died while doing so.
                await asyncio.sleep(0.05)
                await self._batches.mend()
            else:
                await self._order.release(placed)
                kept = existing | dict(zip(fresh, placed, strict=True))
                return [kept[name] for name in names]

    async def _existing(self, keyed: list[str]) -> dict[str, Job]:
        """The existing jobs with these keys."""
        rows = await self._batches.read({"keyed": {"$in": keyed}}) if keyed else []
        return {str(row["keyed"]): self._job(row) for row in rows}

    async def _placed(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs with their times and places in the queue."""
        if not jobs:
            return []
        first = await self._order.positions(len(jobs))
        turns = await self._order.turns(jobs)
        at = time.time()
        return [
            job.model_copy(update={"created_at": at, "turn": turn, "position": float(first + index)})
            for index, (job, turn) in enumerate(zip(jobs, turns, strict=True))
        ]

    async def get(self, id: str) -> Job | None:
        rows = await self._batches.read({"_id": id})
        return self._job(rows[0]) if rows else None

    async def find(self, query: Query) -> list[Job]:
        if query.limit <= 0:
            return []
        filter: Document = {}
        for name in ("owner", "leader", "worker"):
            if getattr(query, name) is not None:
                filter[name] = getattr(query, name)
        if query.states:
            filter["state"] = {"$in": list(query.states)}
        if query.kinds:
            filter["kind"] = {"$in": list(query.kinds)}
        if query.finished_since:
            filter["finished_at"] = {"$gte": query.finished_since}
        if query.noted is not None:
            filter["_id"] = {"$in": await self._ids(query.noted)}
        if query.text:
            filter["plan"] = {"$regex": prompting(query.text)}
        if query.after is not None and query.order != "queue":
            last = await self._batches.read({"_id": query.after})
            if not last:
                return []
            filter["seq"] = {"$lt" if query.order == "new" else "$gt": last[0]["seq"]}
        order = {"new": NEW, "old": OLD, "queue": QUEUE}[query.order]
        return [self._job(row) for row in await self._batches.read(filter, sort=order, limit=query.limit)]

    async def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        update = await self._claiming(worker, seconds)
        if id is not None:
            named = {"state": {"$in": ["queued", "paused"]}}
            return await self._swap(id, {"$and": [named, _alive()]}, update)
        first = {"$and": [_WAITING, _alive()]}
        with self._link.translated_errors():
            row = await self._link["jobs"].find_one_and_update(first, update, sort=QUEUE, return_document=_AFTER)
        if row is None:
            return None
        job = self._job(row)
        await self._order.claimed(job)
        return job

    async def claim_more(
        self, worker: str, seconds: float, fits: Callable[[Job], bool], most: int, among: int | Collection[str]
    ) -> list[Job]:
        front, conditions = isinstance(among, int), [_WAITING, _alive()]
        if not isinstance(among, int):
            conditions.append({"_id": {"$in": [*among]}})
        limit = among if isinstance(among, int) else 0
        rows = iter(await self._batches.read({"$and": conditions}, sort=QUEUE, limit=limit))
        taken: list[Job] = []
        # After a row that another worker claimed first, several are tried at once: many workers look at the same rows.
        size = 1
        while len(taken) < most:
            chosen: list[tuple[Document, bool]] = []
            for row in rows:
                if not fits(self._job(row)):
                    front = False
                    continue
                chosen.append((row, front))
                if len(chosen) == size:
                    break
            claimed = await self._claim_of(worker, seconds, chosen, most - len(taken))
            taken += claimed
            size = size if len(claimed) == len(chosen) else 2 * size
            if not chosen:
                break
        return taken

    async def _claim_of(
        self, worker: str, seconds: float, chosen: Sequence[tuple[Document, bool]], most: int
    ) -> list[Job]:
        """Claims up to `most` of these examined rows in queue order; each comes with whether it is at the front."""
        left, taken = {str(row["_id"]): (row, front) for row, front in chosen}, list[Job]()
        while left and len(taken) < most:
            # Claim only rows as they were examined: another attempt or priority makes it a different job.
            groups: dict[tuple[int, int], list[str]] = {}
            for id, (row, _) in left.items():
                groups.setdefault((row["attempt"], row["priority"]), []).append(id)
            seen = [{"_id": {"$in": ids}, "attempt": a, "priority": p} for (a, p), ids in groups.items()]
            among = {"$and": [_WAITING, _alive(), seen[0] if len(seen) == 1 else {"$or": seen}]}
            update = await self._claiming(worker, seconds)
            with self._link.translated_errors():
                got = await self._link["jobs"].find_one_and_update(among, update, sort=QUEUE, return_document=_AFTER)
            if got is None:
                break
            taken.append(self._job(got))
            if left.pop(taken[-1].id)[1]:
                await self._order.claimed(taken[-1])
        return taken

    async def _claiming(self, worker: str, seconds: float) -> Document:
        """The update that claims a job."""
        lease = {"state": "running", "worker": worker, "wanted": "", "started_at": tick(time.time()), "expires_at": 0.0}
        lease["lease_until"] = tick(await self.now() + seconds)
        return {"$set": lease, "$inc": {"attempt": 1, "stalls": 1}}

    async def renew(self, id: str, attempt: int, seconds: float, reached: float) -> Job | None:
        held = {"state": "running", "attempt": attempt}
        lease = {"lease_until": tick(await self.now() + seconds)}
        further = {"$set": {**lease, "reached": float(reached), "stalls": 0}}
        job = await self._swap(id, {**held, "reached": {"$lt": float(reached)}}, further)
        return job or await self._swap(id, held, {"$set": lease})

    async def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        held: Document = {"state": "running", "attempt": attempt}
        if lapsed:
            held["lease_until"] = {"$lte": await self.now()}
        return await self._changed(id, held, changes)

    async def change(self, id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        return await self._changed(id, {"state": {"$in": list(states)}}, changes)

    async def _changed(self, id: str, filter: Document, changes: Mapping[str, Any]) -> Job | None:
        """Changes a job that matches `filter`. Raises RequestError for invalid changes."""
        unknown = set(changes) - (set(Job.model_fields) - {"id"})
        if unknown:
            raise RequestError(
                min(unknown), changes[min(unknown)], "is not a job field that can change", "leave it out"
            )
        Job.of(**{**_ANY, **changes})
        new = flat(changes)
        if new and not {"owner", "priority", "key"} & set(new):
            return await self._swap(id, filter, {"$set": new})
        while True:
            rows = await self._batches.read({"_id": id, **filter})
            if not rows or not new:
                return self._job(rows[0]) if rows else None
            job = await self._swap(id, *await self._moved(rows[0], filter, new))
            if job is not None:
                await self._order.release([job])
                return job

    async def _moved(self, row: Document, filter: Document, new: Row) -> tuple[Document, Document]:
        """The filter and update of a change of a job's key, owner or priority."""
        seen = {name: row[name] for name in ("owner", "priority", "key")}
        owner, priority, key = (new.get(name, old) for name, old in seen.items())
        update: Document = {"$set": dict(new)}
        if priority != row["priority"]:
            update["$set"]["turn"] = await self._order.reserve(owner, priority)
        if key:
            update["$set"]["keyed"] = _keyed(owner, key)
        else:
            update["$unset"] = {"keyed": ""}
        return {**filter, **seen}, update

    async def _swap(self, id: str, filter: Document, update: Document) -> Job | None:
        """Changes a job that matches `filter` atomically; returns the changed job."""
        whole = {"$and": [{"_id": id, "batch": ""}, filter]}
        for _ in range(2):
            with self._link.translated_errors():
                row = await self._link["jobs"].find_one_and_update(whole, update, return_document=_AFTER)
            if row or not await self._batches.free(id):
                break
        return self._job(row) if row else None

    async def remove(self, id: str, states: Collection[State]) -> Job | None:
        whole = {"_id": id, "batch": "", "state": {"$in": list(states)}}
        for _ in range(2):
            with self._link.translated_errors():
                row = await self._link["jobs"].find_one_and_delete(whole)
            if row or not await self._batches.free(id):
                break
        return self._job(row) if row else None

    async def reorder(self, id: str, before: str | None) -> Job | None:
        return await self.get(id) if await self._order.reorder(id, before) else None

    async def lapsed(self, limit: int = 100) -> list[Job]:
        await self._batches.mend()
        over = {"state": "running", "lease_until": {"$lte": await self.now()}}
        rows = await self._batches.read(over, sort=[("lease_until", 1)], limit=limit)
        if len(rows) < limit:
            past = {"state": {"$in": WAITING}, "expires_at": {"$gt": 0.0, "$lte": time.time()}}
            rows += await self._batches.read(past, sort=[("expires_at", 1)], limit=limit - len(rows))
        return [self._job(row) for row in rows]

    async def counts(self, owner: str | None = None) -> dict[State, int]:
        # With the state, the index "queue" answers without reading the jobs.
        shown: Document = {"batch": "", "state": {"$in": list(STATES)}} | ({} if owner is None else {"owner": owner})
        found = await self._summed(shown, "$state", 1)
        return {state: int(found.get(state, 0)) for state in STATES}

    async def spent(self, owner: str, since: float) -> float:
        recent = {"$or": [{"finished_at": {"$gte": since}}, {"state": {"$in": [*WAITING, "running"]}}]}
        found = await self._summed({"$and": [{"owner": owner, "batch": ""}, recent]}, None, "$seconds")
        return float(found.get(None, 0.0))

    async def _summed(self, filter: Document, by: str | None, what: str | int) -> dict[Any, float]:
        stages = [{"$match": filter}, {"$group": {"_id": by, "sum": {"$sum": what}}}]
        with self._link.translated_errors():
            groups = await (await self._link["jobs"].aggregate(stages)).to_list()
        return {group["_id"]: group["sum"] for group in groups}

    async def keep(self) -> None:
        """Does nothing: the server has its own backup tools."""

    async def check(self) -> list[str]:
        wrong = []
        with self._link.translated_errors():
            async for row in self._link["jobs"].find({}):
                try:
                    job = Job.from_row({**row, "id": row["_id"]})
                except RequestError as error:
                    wrong.append(f"job {row['_id']} cannot be read: {error}")
                    continue
                if job.state == "running" and not (job.worker and job.lease_until):
                    wrong.append(f"job {job.id} is running without a lease")
                if row.get("keyed") != (_keyed(job.owner, job.key) if job.key else None):
                    wrong.append(f"job {job.id} is indexed under another key")
        away = abs(await self.now() - time.time())
        if away > 60:
            wrong.append(f"the server's clock is {away:.0f} s off from this machine's")
        return wrong

    def _job(self, row: Document) -> Job:
        try:
            return Job.from_row({**row, "id": row["_id"]})
        except RequestError as error:
            reason = f"has a job {row['_id']} that cannot be read: {error}"
            raise StoreError(self._link.address.shown, reason, "`flickbook store check` checks it") from None


def _alive() -> Document:
    """A filter for jobs that have not expired."""
    return {"$or": [{"expires_at": 0.0}, {"expires_at": {"$gt": time.time()}}]}


def _row(job: Job) -> Document:
    row: Document = job.to_row()
    row["_id"], row["seq"] = row.pop("id"), job.position
    if job.key:
        row["keyed"] = _keyed(job.owner, job.key)
    return row


def _keyed(owner: str, key: str) -> str:
    """The indexed hash of an owner's key: of fixed length, and unambiguous for each pair."""
    return hashlib.sha256(f"{len(owner)}:{owner}{key}".encode("utf-8", "surrogatepass")).hexdigest()


def _known(id: object) -> RequestError:
    return RequestError("id", id, "a job with this id exists", "use a new id")
