"""Several jobs at once, all or none, on a server that changes one document at a time.

The mark of a batch is written first, then its jobs, each of which names it; deleting the mark is the one change that
shows them all. A job of a batch that is still marked is seen by nobody; one whose mark is gone is there, and whoever
meets it takes the batch's name off it, after which it can be claimed. A crash before that change leaves jobs that
nobody sees until `mend` deletes them, a crash after it leaves jobs that `mend` sets free.

A mark that was given up stays for a day, so that what its writer still sends, should it only be slow, is not shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pymongo.errors import BulkWriteError, DuplicateKeyError

from flickbook.errors import StoreError
from flickbook.store.base import new_id
from flickbook.store.mongo.connection import Document, MongoLink

#: After so many seconds a batch that is not shown has lost its writer; a given up mark is forgotten after so many.
ABANDONED: Final = 5.0
FORGOTTEN: Final = 86_400.0
_DUPLICATE: Final = 11_000


class Taken(Exception):
    """A job with this id, or this owner and key, is there already."""


class Batches:
    """The marks of batches, in the collection `batches`: `_id`, `at` (by the server's clock), `open` 1 or 0."""

    def __init__(self, link: MongoLink) -> None:
        self.link = link

    async def insert(self, rows: Sequence[Document]) -> None:
        """Keep jobs, all or none. Raises Taken, and nothing is kept, where one is there already."""
        if len(rows) == 1:
            await self._one({**rows[0], "batch": ""})
        elif rows:
            await self._several(rows)

    async def _one(self, row: Document) -> None:
        with self.link.told():
            try:
                await self.link["jobs"].insert_one(row)
                return
            except DuplicateKeyError:
                pass
        raise Taken

    async def _several(self, rows: Sequence[Document]) -> None:
        name, marks = new_id("batch"), self.link["batches"]
        mark = {"_id": name, "at": await self.link.now(), "open": 1}
        taken = False
        with self.link.told():
            await marks.insert_one(mark)
            try:
                await self.link["jobs"].insert_many([{**row, "batch": name} for row in rows])
            except BulkWriteError as error:
                taken = all(each.get("code") == _DUPLICATE for each in error.details.get("writeErrors", [])) and bool(
                    error.details.get("writeErrors")
                )
                if not taken:
                    raise
        if taken:
            await self._drop(name)
            raise Taken
        with self.link.told():
            shown = await marks.delete_one({"_id": name, "open": 1})
            if shown.deleted_count:
                await self._free(name)
                return
        reason = "was so slow that jobs were given up before they were all kept"
        raise StoreError(self.link.address.shown, reason, "ask again; none of them was kept")

    async def _drop(self, name: str) -> None:
        """Forget a batch that only its writer, who is here, knows."""
        with self.link.told():
            await self.link["batches"].update_one({"_id": name}, {"$set": {"open": 0}})
            await self.link["jobs"].delete_many({"batch": name})
            await self.link["batches"].delete_one({"_id": name})

    async def _free(self, name: str) -> None:
        await self.link["jobs"].update_many({"batch": name}, {"$set": {"batch": ""}})

    async def hidden(self, names: Iterable[str]) -> set[str]:
        """Which of these batches are not shown yet; the jobs of the others are set free."""
        asked = {name for name in names if name}
        if not asked:
            return set()
        with self.link.told():
            # The jobs were read first: a mark that is gone now may have been there then, never the other way.
            marks = await self.link["batches"].find({"_id": {"$in": sorted(asked)}}).to_list()
            marked = {str(mark["_id"]) for mark in marks}
            for name in asked - marked:
                await self._free(name)
        return marked

    async def free(self, id: str) -> bool:
        """Whether this job was shown, but not yet free to be changed; it is now."""
        with self.link.told():
            row = await self.link["jobs"].find_one({"_id": id}, {"batch": 1})
        return bool(row and row["batch"]) and not await self.hidden([row["batch"] if row else ""])

    async def mend(self) -> None:
        """Finish what writers that died have left: what they showed is set free, what they did not is deleted."""
        now = await self.link.now()
        with self.link.told():
            marks, jobs = self.link["batches"], self.link["jobs"]
            await marks.update_many({"open": 1, "at": {"$lt": now - ABANDONED}}, {"$set": {"open": 0}})
            for mark in await marks.find({"open": 0}).to_list():
                await jobs.delete_many({"batch": mark["_id"]})
            await marks.delete_many({"open": 0, "at": {"$lt": now - FORGOTTEN}})
            left = await jobs.distinct("batch", {"batch": {"$gt": ""}})
        await self.hidden(left)

    async def read(self, filter: Document, **how: Any) -> list[Document]:
        """The rows that `filter` finds among the jobs that are shown, as `Collection.find` takes `how`."""
        unseen: set[str] = set()
        while True:
            chosen = {"$and": [filter, {"batch": {"$nin": sorted(unseen)}}]} if unseen else filter
            with self.link.told():
                rows: list[Document] = await self.link["jobs"].find(chosen, **how).to_list()
            # A batch that was left out and is shown by now would be seen in part: then everything is read again.
            hidden = await self.hidden({row["batch"] for row in rows} | unseen)
            if hidden == unseen:
                return rows
            unseen = hidden
            await asyncio.sleep(0)
