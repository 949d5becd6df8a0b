"""The queue order of the MongoDB store: turns, which are fair between owners, and positions."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pymongo import DESCENDING, ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from flickbook.errors import StoreError
from flickbook.store.base import Job
from flickbook.store.mongo.batch import ABANDONED, Batches
from flickbook.store.mongo.connection import Document, MongoLink, tick
from flickbook.store.mongo.schema import QUEUE

#: Seconds after which the lock on an owner's order expires, as its holder may die.
_ORDERING: Final = 10.0


class Order:
    """Start-time fair queueing (Goyal, Vin and Cheng 1996), with jobs of equal cost, within each priority.

    A job is placed after its owner's last queued job, and not before jobs that were already claimed. Turns are reserved
    while their jobs are written, so that two concurrent callers do not get the same turn.
    """

    def __init__(self, link: MongoLink, batches: Batches) -> None:
        self.link = link
        self.batches = batches
        self.passed: dict[int, float] = {}

    async def positions(self, count: int) -> int:
        """Reserves `count` positions and returns the first."""
        with self.link.translated_errors():
            queue = await self.link.light("meta").find_one_and_update(
                {"_id": "queue"}, {"$inc": {"position": count}}, upsert=True, return_document=ReturnDocument.AFTER
            )
        if queue is None:
            raise StoreError(self.link.address.shown, "gives no position in the queue", "see its log")
        return int(queue["position"]) - count + 1

    async def turns(self, jobs: Sequence[Job]) -> list[float]:
        """Reserves a turn for each new job; call `release` when the jobs are written."""
        counts = Counter((job.owner, job.priority) for job in jobs)
        following = {who: await self.reserve(*who, count) for who, count in counts.items()}
        turns = []
        for job in jobs:
            turns.append(following[job.owner, job.priority])
            following[job.owner, job.priority] += 1.0
        return turns

    async def reserve(self, owner: str, priority: int, count: int = 1) -> float:
        """Reserves `count` turns and returns the first."""
        waiting = {"owner": owner, "priority": priority, "state": "queued", "batch": ""}
        name, owners = _line(owner, priority), self.link.light("owners")
        while True:
            now = await self.link.now()
            with self.link.translated_errors():
                last = await self.link["jobs"].find_one(waiting, {"turn": 1}, sort=[("turn", DESCENDING)])
                claimed = await self.link.light("meta").find_one({"_id": f"turn {priority}"})
                found = await owners.find_one({"_id": name})
                reserved = found["turn"] if found and found["until"] > now else 0.0
                base = max(reserved, last["turn"] if last else 0.0, claimed["turn"] if claimed else 0.0)
                new = {"turn": base + count, "until": tick(now + ABANDONED)}
                try:
                    if found is None:
                        await owners.insert_one({"_id": name, **new})
                        return float(base + 1)
                    seen = {"_id": name, "turn": found["turn"], "until": found["until"]}
                    if (await owners.update_one(seen, {"$set": new})).matched_count:
                        return float(base + 1)
                except DuplicateKeyError:
                    pass
            await asyncio.sleep(0)

    async def release(self, jobs: Sequence[Job]) -> None:
        """Ends the reservations of jobs that are written; later reservations stay."""
        last: dict[tuple[str, int], float] = {}
        for job in jobs:
            last[job.owner, job.priority] = max(job.turn, last.get((job.owner, job.priority), 0.0))
        with self.link.translated_errors():
            for (owner, priority), turn in last.items():
                mine = {"_id": _line(owner, priority), "turn": turn}
                await self.link.light("owners").update_one(mine, {"$set": {"until": 0.0}})

    async def claimed(self, job: Job) -> None:
        """Records that a queued job was claimed. If a crash loses this, the next job is placed slightly too early."""
        if job.turn <= self.passed.get(job.priority, 0.0):
            return
        with self.link.translated_errors():
            mark = {"_id": f"turn {job.priority}"}
            await self.link.light("meta").update_one(mark, {"$max": {"turn": job.turn}}, upsert=True)
        self.passed[job.priority] = job.turn

    async def reorder(self, id: str, before: str | None) -> bool:
        """Moves a queued job before another one of its owner and priority, or to the end; returns whether both are
        queued.
        """
        found = await self.batches.read({"_id": id, "state": "queued"})
        if not found:
            return False
        line = {"owner": found[0]["owner"], "priority": found[0]["priority"], "state": "queued"}
        lock = f"order {_line(line['owner'], line['priority'])}"
        taken = await self._alone(lock)
        try:
            rows = await self.batches.read(line, sort=QUEUE)
            ids = [str(row["_id"]) for row in rows]
            if id not in ids or (before is not None and before not in ids):
                return False
            if before != id:
                ids.remove(id)
                ids.insert(len(ids) if before is None else ids.index(before), id)
                await self._deal(ids, rows)
        finally:
            with self.link.translated_errors():
                await self.link.light("owners").delete_one({"_id": lock, "until": taken})
        return True

    async def _alone(self, lock: str) -> float:
        """Locks the order of an owner's jobs: concurrent changes could assign a place twice. Returns the value for
        unlocking.
        """
        owners = self.link.light("owners")
        while True:
            now = await self.link.now()
            until = tick(now + _ORDERING)
            with self.link.translated_errors():
                try:
                    await owners.insert_one({"_id": lock, "turn": 0.0, "until": until})
                    return until
                except DuplicateKeyError:
                    over = await owners.update_one({"_id": lock, "until": {"$lte": now}}, {"$set": {"until": until}})
                    if over.matched_count:
                        return until
            await asyncio.sleep(0.02)

    async def _deal(self, ids: Sequence[str], rows: Sequence[Document]) -> None:
        """Assigns the places of `rows`, which are sorted, to `ids`. A job that was claimed meanwhile keeps its own."""
        changes, last = [], (-math.inf, -math.inf)
        held = {row["_id"]: (row["turn"], row["position"]) for row in rows}
        for id, row in zip(ids, rows, strict=True):
            place = (row["turn"], row["position"])
            if place <= last:
                place = (last[0], math.nextafter(last[1], math.inf))
            last = place
            if held[id] != place:
                moved = {"turn": place[0], "position": place[1]}
                changes.append(UpdateOne({"_id": id, "state": "queued", "batch": ""}, {"$set": moved}))
        if changes:
            with self.link.translated_errors():
                await self.link["jobs"].bulk_write(changes)


def _line(owner: str, priority: int) -> str:
    return f"{priority} {owner}"
