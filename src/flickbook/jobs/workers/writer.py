"""Writes files in a thread while the next films are made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

Work = Callable[[], None]
#: Prefix of its threads' names.
SCRIBE: Final = "scribe"


class BackgroundWriter:
    """Runs one function after the other in a thread. The functions must catch their own errors."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=SCRIBE)
        self._last: Future[None] | None = None

    def hand(self, work: Work) -> None:
        """Runs a function next. Blocks until the previous one has finished, so that at most one film waits to be
        written.
        """
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(work)

    def after(self, work: Work) -> None:
        """Runs a function after all that were submitted so far."""
        self._thread.submit(work)

    def rest(self) -> None:
        """Waits until all functions have finished."""
        self._thread.submit(lambda: None).result()
