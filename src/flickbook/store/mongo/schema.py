"""Collections of the MongoDB store, their indexes, and migrations.

jobs      a job's row, `id` as `_id`; `seq`, its first position; `batch` (batch.py); `keyed`, a hash, if it has a key
batches   marks of batches of jobs that are being added
owners    the last `turn` reserved for an owner's jobs, and `until` when; locks of their order
notes     notes; kind and id form `_id`
buckets   how much of a limit is `taken`, and when its window `began` and `ends`
secrets   `value`
meta      "schema": `number`; "queue": the last `position` assigned; "turn 0": the last `turn` claimed of priority 0;
          "keys": exists once an API key was created
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from flickbook.errors import StoreError
from flickbook.store.mongo.connection import MongoLink

QUEUE: Final = [("priority", DESCENDING), ("turn", ASCENDING), ("position", ASCENDING), ("seq", ASCENDING)]
NEW: Final = [("seq", DESCENDING)]
OLD: Final = [("seq", ASCENDING)]

_FIRST: Final = [
    IndexModel([("state", ASCENDING), ("home", ASCENDING), ("batch", ASCENDING), *QUEUE], name="queue"),
    # Sparse, not partial: contains only jobs with a key, on every server that speaks the protocol.
    IndexModel([("keyed", ASCENDING)], name="keyed", unique=True, sparse=True),
    IndexModel(NEW, name="new"),
    IndexModel([("owner", ASCENDING), *NEW], name="owner_new"),
    IndexModel([("owner", ASCENDING), ("priority", ASCENDING), ("state", ASCENDING), ("turn", ASCENDING)], name="line"),
    IndexModel([("owner", ASCENDING), ("finished_at", ASCENDING)], name="owner_finished"),
    IndexModel([("state", ASCENDING), ("lease_until", ASCENDING)], name="leases"),
    IndexModel([("state", ASCENDING), ("expires_at", ASCENDING)], name="expiry"),
    IndexModel([("leader", ASCENDING)], name="leader"),
    IndexModel([("worker", ASCENDING)], name="worker"),
    IndexModel([("batch", ASCENDING)], name="batch"),
]
#: For the places of queued jobs, and for jobs that finished recently.
_LATER: Final = [
    IndexModel([("state", ASCENDING), *QUEUE], name="places"),
    IndexModel([("state", ASCENDING), ("finished_at", ASCENDING)], name="finished"),
]
JOBS: Final = [*_FIRST, *_LATER]
NOTES: Final = [
    IndexModel([("kind", ASCENDING), ("owner", ASCENDING), ("id", ASCENDING)], name="owner"),
    IndexModel([("kind", ASCENDING), ("due", ASCENDING)], name="due"),
]


BUCKETS: Final = [IndexModel([("ends", ASCENDING)], name="ends")]


async def _indexes(link: MongoLink) -> None:
    await link["jobs"].create_indexes(_FIRST)
    await link["notes"].create_indexes(NOTES)
    await link["buckets"].create_indexes(BUCKETS)


async def _more_indexes(link: MongoLink) -> None:
    await link["jobs"].create_indexes(_LATER)


#: Append only. Each step may run twice, also concurrently.
MIGRATIONS: Final[tuple[Callable[[MongoLink], Awaitable[None]], ...]] = (_indexes, _more_indexes)


async def migrate(link: MongoLink) -> None:
    """Migrates the database. Raises StoreError for a schema of a newer Flickbook."""
    with link.translated_errors():
        found = await link["meta"].find_one({"_id": "schema"})
    number = int(found["number"]) if found else 0
    if number > len(MIGRATIONS):
        reason = f"has schema {number}, and this Flickbook knows {len(MIGRATIONS)}"
        raise StoreError(link.address.shown, reason, "update Flickbook, or name another database in the address")
    with link.translated_errors():
        for done, step in enumerate(MIGRATIONS[number:], number + 1):
            await step(link)
            await link["meta"].update_one({"_id": "schema"}, {"$max": {"number": done}}, upsert=True)
