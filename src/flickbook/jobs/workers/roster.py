"""The workers of a queue on all machines: each publishes a note in the store, and changes it at every heartbeat."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from flickbook.jobs.queue import BEAT
from flickbook.store.base import Note, Store

#: The kind of the notes, and heartbeats without a change after which a worker counts as dead.
NOTE: Final = "worker"
_GONE: Final = 4


class Roster:
    """The notes of all workers. A note that does not change is that of a dead worker, and whoever sees it drops it.

    Clocks of different machines are not compared. `beat` is the time between two heartbeats in seconds. All methods
    raise StoreError.
    """

    def __init__(self, store: Store, beat: float = BEAT) -> None:
        self._store, self._beat = store, beat
        #: The last count of each worker, and when it changed.
        self._seen: dict[str, tuple[int, float]] = {}

    async def publish(self, name: str, count: int, **facts: Any) -> None:
        """Writes the note of a worker; `count` differs at every call, `facts` are JSON."""
        body = json.dumps({**facts, "count": count})
        await self._store.put(Note(kind=NOTE, id=name, body=body))

    async def drop(self, name: str) -> None:
        """Deletes the note of a worker."""
        await self._store.drop(NOTE, name)

    async def alive(self) -> dict[str, Mapping[str, Any]]:
        """What the living workers published, by name."""
        found, now = {}, time.monotonic()
        for note in await self._store.notes(NOTE):
            body = json.loads(note.body)
            count, since = self._seen.get(note.id, (0, now))
            if count != body["count"]:
                self._seen[note.id] = body["count"], now
            elif now - since > _GONE * self._beat:
                await self.drop(note.id)
                continue
            found[note.id] = body
        self._seen = {name: self._seen[name] for name in found}
        return found
