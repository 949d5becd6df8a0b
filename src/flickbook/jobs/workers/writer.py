"""Files written in a thread, while the next films are made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

Work = Callable[[], None]
#: What the names of its threads begin with.
SCRIBE: Final = "scribe"


class BackgroundWriter:
    """Does one thing after the other in a thread of its own. What it is handed catches its own errors."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=SCRIBE)
        self._last: Future[None] | None = None

    def hand(self, work: Work) -> None:
        """Have this done next. Waits for what was handed in before: of films that wait to be written there is one."""
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(work)

    def after(self, work: Work) -> None:
        """Have this done once all is written that was handed in."""
        self._thread.submit(work)

    def rest(self) -> None:
        """Wait until all is done."""
        self._thread.submit(lambda: None).result()
