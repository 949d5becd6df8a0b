"""Adds several jobs, all or none, on a server that changes one document at a time.

First the mark of a batch is written, then its jobs, each of which names the batch. Deleting the mark is the single
change that makes them all visible. Jobs whose batch is still marked are invisible. Once the mark is gone they are
visible, and the first reader removes the batch's name from them, after which they can be claimed. A crash before the
mark is deleted leaves invisible jobs, which `mend` deletes; a crash after it leaves jobs that `mend` frees.
The mark of an abandoned batch is kept for a day, so that late writes of a slow writer do not become visible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pymongo.errors import BulkWriteError, DuplicateKeyError

from flickbook.errors import StoreError
from flickbook.store.base import new_id
from flickbook.store.mongo.connection import Document, MongoLink

#: Seconds after which an invisible batch counts as abandoned, and after which the mark of an abandoned batch is
#: deleted.
ABANDONED: Final = 5.0
FORGOTTEN: Final = 86_400.0
_DUPLICATE: Final = 11_000


class Taken(Exception):
    """A job with this id, or with this owner and key, already exists."""


class Batches:
    """The marks of batches, in the collection `batches`: `_id`, `at` (server clock), `open` 1 or 0."""

    def __init__(self, link: MongoLink) -> None:
        self.link = link

    async def insert(self, rows: Sequence[Document]) -> None:
        """Adds jobs, all or none. Raises Taken, and adds nothing, if one exists already."""
        if len(rows) == 1:
            await self._one({**rows[0], "batch": ""})
        elif rows:
            await self._several(rows)

    async def _one(self, row: Document) -> None:
        with self.link.translated_errors():
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
        with self.link.translated_errors():
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
        with self.link.translated_errors():
            shown = await marks.delete_one({"_id": name, "open": 1})
            if shown.deleted_count:
                await self._free(name)
                return
        reason = "was so slow that the jobs were cancelled before all were stored"
        raise StoreError(self.link.address.shown, reason, "try again; none of them was stored")

    async def _drop(self, name: str) -> None:
        """Deletes a batch of this writer that was never visible."""
        with self.link.translated_errors():
            await self.link["batches"].update_one({"_id": name}, {"$set": {"open": 0}})
            await self.link["jobs"].delete_many({"batch": name})
            await self.link["batches"].delete_one({"_id": name})

    async def _free(self, name: str) -> None:
        await self.link["jobs"].update_many({"batch": name}, {"$set": {"batch": ""}})

    async def hidden(self, names: Iterable[str]) -> set[str]:
        """Which of these batches are still invisible; jobs of the others are freed."""
        candidates = {name for name in names if name}
        if not candidates:
            return set()
        with self.link.translated_errors():
            # Jobs are read before marks: a mark that is gone now may have existed then, but not the reverse.
            marks = await self.link["batches"].find({"_id": {"$in": sorted(candidates)}}).to_list()
            marked = {str(mark["_id"]) for mark in marks}
            for name in candidates - marked:
                await self._free(name)
        return marked

    async def free(self, id: str) -> bool:
        """Frees a job whose batch is visible; returns whether it had to be freed."""
        with self.link.translated_errors():
            row = await self.link["jobs"].find_one({"_id": id}, {"batch": 1})
        return bool(row and row["batch"]) and not await self.hidden([row["batch"] if row else ""])

    async def mend(self) -> None:
        """Finishes batches of dead writers: frees jobs of visible ones, deletes jobs of invisible ones."""
        now = await self.link.now()
        with self.link.translated_errors():
            marks, jobs = self.link["batches"], self.link["jobs"]
            await marks.update_many({"open": 1, "at": {"$lt": now - ABANDONED}}, {"$set": {"open": 0}})
            for mark in await marks.find({"open": 0}).to_list():
                await jobs.delete_many({"batch": mark["_id"]})
            await marks.delete_many({"open": 0, "at": {"$lt": now - FORGOTTEN}})
            left = await jobs.distinct("batch", {"batch": {"$gt": ""}})
        await self.hidden(left)

    async def read(self, filter: Document, **options: Any) -> list[Document]:
        """The rows of visible jobs that match `filter`; `options` as in `Collection.find`."""
        unseen: set[str] = set()
        while True:
            chosen = {"$and": [filter, {"batch": {"$nin": sorted(unseen)}}]} if unseen else filter
            with self.link.translated_errors():
                rows: list[Document] = await self.link["jobs"].find(chosen, **options).to_list()
            # A skipped batch that became visible meanwhile would be read in part: read everything again.
            hidden = await self.hidden({row["batch"] for row in rows} | unseen)
            if hidden == unseen:
                return rows
            unseen = hidden
            await asyncio.sleep(0)
