"""Notes, rate-limit windows and secrets of the MongoDB store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection

from pymongo.errors import DuplicateKeyError

from flickbook.errors import RequestError, StoreError
from flickbook.store.base import KEY, Note
from flickbook.store.mongo.connection import Document, MongoLink


class Notes:
    """The methods of the store that do not concern jobs."""

    _link: MongoLink

    async def put(self, note: Note) -> None:
        await self._first("notes", {"_id": _name(note.kind, note.id)}, {"$set": note.to_row()})

    async def put_new(self, note: Note) -> Note | None:
        while True:
            with self._link.translated_errors():
                try:
                    await self._link["notes"].insert_one({"_id": _name(note.kind, note.id), **note.to_row()})
                    return None
                except DuplicateKeyError:
                    pass
            existing = await self.note(note.kind, note.id)
            if existing is not None:  # otherwise it was deleted meanwhile
                return existing

    async def note(self, kind: str, id: str) -> Note | None:
        with self._link.translated_errors():
            row = await self._link["notes"].find_one({"_id": _name(kind, id)}, {"_id": 0})
        return self._note(row) if row else None

    async def notes(
        self, kind: str, owner: str | None = None, due: float | None = None, ids: Collection[str] | None = None
    ) -> list[Note]:
        filter: Document = {"kind": kind}
        if owner is not None:
            filter["owner"] = owner
        if due is not None:
            filter["due"] = {"$gt": 0.0, "$lte": float(due)}
        if ids is not None:
            filter["_id"] = {"$in": [_name(kind, id) for id in ids]}
        with self._link.translated_errors():
            rows = await self._link["notes"].find(filter, {"_id": 0}).sort([("id", 1)]).to_list()
        return [self._note(row) for row in rows]

    async def _ids(self, kind: str) -> list[str]:
        """The ids of the notes of a kind."""
        with self._link.translated_errors():
            rows = await self._link["notes"].find({"kind": kind}, {"_id": 0, "id": 1}).to_list()
        return [str(row["id"]) for row in rows]

    async def drop(self, kind: str, id: str) -> bool:
        with self._link.translated_errors():
            return bool((await self._link["notes"].delete_one({"_id": _name(kind, id)})).deleted_count)

    async def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        buckets = self._link["buckets"]
        while True:
            now = await self._link.now()
            current = {"$gt": now - window, "$lte": now}
            with self._link.translated_errors():
                # The usual case: enough is left, and one round trip suffices.
                room = {"_id": bucket, "began": current, "taken": {"$lte": limit - amount}}
                row = await buckets.find_one_and_update(room, {"$inc": {"taken": amount}})
                if row:
                    return amount, float(row["began"]) + window
                row = await buckets.find_one({"_id": bucket})
                fresh = row is None or not now - window < row["began"] <= now
                taken, began = (0, now) if fresh or row is None else (int(row["taken"]), float(row["began"]))
                granted = max(0, min(amount, limit - taken))
                new = {"taken": taken + granted, "began": began, "ends": began + window}
                if not granted or await self._swapped(bucket, row, new):
                    return granted, began + window
            await asyncio.sleep(0)

    async def _swapped(self, bucket: str, row: Document | None, new: Document) -> bool:
        """Sets a bucket to `new` if it is unchanged; returns whether that succeeded."""
        buckets = self._link["buckets"]
        if row is not None:
            seen = {"_id": bucket, "taken": row["taken"], "began": row["began"]}
            return bool((await buckets.update_one(seen, {"$set": new})).matched_count)
        try:
            await buckets.delete_many({"ends": {"$lte": new["began"]}})
            await buckets.insert_one({"_id": bucket, **new})
        except DuplicateKeyError:
            return False
        return True

    async def protected(self) -> bool:
        with self._link.translated_errors():
            return await self._link["meta"].find_one({"_id": "keys"}) is not None

    async def protect(self, id: str, name: str, revoked_at: float = 0.0) -> None:
        """Records that a key was created; which one, only its note says."""
        await self._first("meta", {"_id": "keys"}, {"$set": {"made": True}})

    async def release(self) -> None:
        with self._link.translated_errors():
            await self._link["meta"].delete_one({"_id": "keys"})

    async def _adopt(self) -> None:
        """Records that keys exist in a database written before there was such a record."""
        with self._link.translated_errors():
            found = await self._link["notes"].find_one({"kind": KEY})
        if found is not None and not await self.protected():
            await self.protect(found["id"], "")

    async def secret(self, name: str) -> str:
        await self._first("secrets", {"_id": name}, {"$setOnInsert": {"value": secrets.token_hex(32)}})
        with self._link.translated_errors():
            row = await self._link["secrets"].find_one({"_id": name})
        if row is None:
            raise StoreError(self._link.address.shown, "lost confirmed data", "see its log")
        return str(row["value"])

    async def _first(self, place: str, name: Document, update: Document) -> None:
        """Updates or creates a document; if two callers create it at once, one fails and updates it instead."""
        with self._link.translated_errors():
            try:
                await self._link[place].update_one(name, update, upsert=True)
            except DuplicateKeyError:
                await self._link[place].update_one(name, update, upsert=True)

    def _note(self, row: Document) -> Note:
        try:
            return Note.of(**row)
        except RequestError as error:
            reason = f"has a note {row.get('id')} that cannot be read: {error}"
            raise StoreError(self._link.address.shown, reason, "`flickbook store check` checks it") from None


def _name(kind: str, id: str) -> str:
    return f"{len(kind)}:{kind}{id}"
