"""Runs work in a thread and passes the results to Tk's thread. Tk must not be called from other threads."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Callbacks = queue.SimpleQueue[Callable[[], None]]
logger = logging.getLogger(__name__)


class Background:
    """One worker thread; callbacks are put into `callbacks`, for the window to call."""

    def __init__(self, name: str, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon thread: a response that never arrives must not keep the program alive.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(
        self, work: Callable[[], T], then: Callable[[T], None], otherwise: Callable[[Exception], None] | None = None
    ) -> None:
        """Queues `work`; its result is passed to `then`, its error to `otherwise`."""
        self._work.put(lambda: self._done(work, then, otherwise))

    def _done(
        self, work: Callable[[], T], then: Callable[[T], None], otherwise: Callable[[Exception], None] | None
    ) -> None:
        try:
            found = work()
        except Exception as error:  # the window shows any error, and the thread continues
            logger.debug("in the background", exc_info=True)
            if otherwise is not None:
                self._callbacks.put(partial(otherwise, error))
        else:
            self._callbacks.put(partial(then, found))

    def _run(self) -> None:
        while True:
            self._work.get()()


def pumped(callbacks: Callbacks, most: int = 50) -> None:
    """Calls queued callbacks in order, at most `most` at once, so that the window stays responsive."""
    for _ in range(most):
        try:
            call = callbacks.get_nowait()
        except queue.Empty:
            return
        call()
