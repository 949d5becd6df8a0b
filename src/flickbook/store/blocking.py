"""A store for synchronous callers: commands and workers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from flickbook.store.base import Store

T = TypeVar("T")


class Blocking:
    """Runs the coroutines of a Store for callers that wait. Any thread may call it.

    They run on an event loop in a daemon thread. A forked process starts a loop of its own at its first call.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._starting = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

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
