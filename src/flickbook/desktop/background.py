"""Work away from the window: done in order in a thread, and told where Tk runs. Tk knows no other thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Told = queue.SimpleQueue[Callable[[], None]]
logger = logging.getLogger(__name__)


class Background:
    """One thread that does what it is given; what then happens goes into `told`, for the window to call."""

    def __init__(self, name: str, told: Told) -> None:
        self._told = told
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon: an answer that does not come must not keep the program alive.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(
        self, work: Callable[[], T], then: Callable[[T], None], otherwise: Callable[[Exception], None] | None = None
    ) -> None:
        """Do `work` after what was given before; its result goes to `then`, its error to `otherwise`."""
        self._work.put(lambda: self._done(work, then, otherwise))

    def _done(
        self, work: Callable[[], T], then: Callable[[T], None], otherwise: Callable[[Exception], None] | None
    ) -> None:
        try:
            found = work()
        except Exception as error:  # whatever it is, the window says it, and the thread goes on
            logger.debug("in the background", exc_info=True)
            if otherwise is not None:
                self._told.put(partial(otherwise, error))
        else:
            self._told.put(partial(then, found))

    def _run(self) -> None:
        while True:
            self._work.get()()


def pumped(told: Told, most: int = 50) -> None:
    """Call what the threads told, in its order, so much of it at once that the window still answers."""
    for _ in range(most):
        try:
            call = told.get_nowait()
        except queue.Empty:
            return
        call()
