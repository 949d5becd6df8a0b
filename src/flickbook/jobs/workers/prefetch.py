"""Prompts of the next job read in a thread, while a film is denoised."""

from __future__ import annotations

import logging
import threading
from typing import Final

from flickbook.engine.films import read_ahead
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.batching import plain, warm_run_options
from flickbook.store.base import Query

#: What its thread is called.
READER: Final = "reader"
logger = logging.getLogger(__name__)


class Reader:
    """Reads what the next film of the queue says, once for each film that is made; only by a model that is warm."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin to read, unless that was done since `rest`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name=READER, daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Wait until it is read: a film that begins reads by itself, and not beside this."""
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def _read(self) -> None:
        try:
            waiting = self._backend.ask(self._backend.store.find(Query(states=("queued",), order="queue", limit=1)))
            for job in filter(plain, waiting):
                read_ahead(job.plan, warm_run_options(job))
        except Exception as error:  # its own run will say what is wrong
            logger.debug("the next job was not read ahead: %s", error)
