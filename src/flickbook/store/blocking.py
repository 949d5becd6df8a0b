"""A store for synchronous callers: commands and workers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from flickbook.store.base import Job, Note, Query, State, Store

T = TypeVar("T")


class Blocking:
    """The methods of a Store as blocking calls. Any thread may call them.

    They run on an event loop in a daemon thread. A forked process starts a loop of its own at its first call.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._starting = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def title(self) -> str:
        return self.store.title

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        try:
            self.ask(self.store.open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the store and ends the thread. May be called twice."""
        if self._loop is not None and self._pid == os.getpid():
            try:
                self.ask(self.store.close())
            finally:
                self._stop()

    def now(self) -> float:
        return self.ask(self.store.now())

    def add(self, jobs: Sequence[Job]) -> list[Job]:
        return self.ask(self.store.add(jobs))

    def get(self, id: str) -> Job | None:
        return self.ask(self.store.get(id))

    def find(self, query: Query) -> list[Job]:
        return self.ask(self.store.find(query))

    def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        return self.ask(self.store.claim(worker, seconds, id))

    def claim_more(
        self, worker: str, seconds: float, fits: Callable[[Job], bool], most: int, among: int | Collection[str]
    ) -> list[Job]:
        return self.ask(self.store.claim_more(worker, seconds, fits, most, among))

    def renew(self, id: str, attempt: int, seconds: float, reached: float) -> Job | None:
        return self.ask(self.store.renew(id, attempt, seconds, reached))

    def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        return self.ask(self.store.settle(id, attempt, changes, lapsed))

    def change(self, id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        return self.ask(self.store.change(id, states, changes))

    def remove(self, id: str, states: Collection[State]) -> Job | None:
        return self.ask(self.store.remove(id, states))

    def reorder(self, id: str, before: str | None) -> Job | None:
        return self.ask(self.store.reorder(id, before))

    def lapsed(self, limit: int = 100) -> list[Job]:
        return self.ask(self.store.lapsed(limit))

    def counts(self, owner: str | None = None) -> dict[State, int]:
        return self.ask(self.store.counts(owner))

    def spent(self, owner: str, since: float) -> float:
        return self.ask(self.store.spent(owner, since))

    def put(self, note: Note) -> None:
        self.ask(self.store.put(note))

    def put_new(self, note: Note) -> Note | None:
        return self.ask(self.store.put_new(note))

    def note(self, kind: str, id: str) -> Note | None:
        return self.ask(self.store.note(kind, id))

    def notes(
        self, kind: str, owner: str | None = None, due: float | None = None, ids: Collection[str] | None = None
    ) -> list[Note]:
        return self.ask(self.store.notes(kind, owner, due, ids))

    def drop(self, kind: str, id: str) -> bool:
        return self.ask(self.store.drop(kind, id))

    def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        return self.ask(self.store.take(bucket, amount, limit, window))

    def protected(self) -> bool:
        return self.ask(self.store.protected())

    def protect(self, id: str, name: str, revoked_at: float = 0.0) -> None:
        self.ask(self.store.protect(id, name, revoked_at))

    def release(self) -> None:
        self.ask(self.store.release())

    def secret(self, name: str) -> str:
        return self.ask(self.store.secret(name))

    def keep(self) -> None:
        self.ask(self.store.keep())

    def check(self) -> list[str]:
        return self.ask(self.store.check())

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine and returns its result. Interrupting the caller does not cancel it, so no change is left
        half done.
        """
        return asyncio.run_coroutine_threadsafe(work, self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        # Threads do not survive a fork, and one of them may have held the lock.
        if self._pid != os.getpid():
            self._starting, self._loop, self._pid = threading.Lock(), None, os.getpid()
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
                self._thread.start()
            return self._loop

    def _stop(self) -> None:
        with self._starting:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
