"""Encodes the prompts of the next job in a thread, while a film is denoised."""

from __future__ import annotations

import logging
import threading
from typing import Final

from flickbook.engine.films import read_ahead
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.batching import plain, warm_run_options
from flickbook.store.base import Query

#: Name of its thread.
READER_THREAD: Final = "reader"
logger = logging.getLogger(__name__)


class Reader:
    """Encodes the prompts of the next queued job, once per film, and only with a model that is already loaded."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Starts encoding, unless it was started since the last `wait`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name=READER_THREAD, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Waits until encoding has finished, so that the next film does not encode at the same time."""
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def _read(self) -> None:
        try:
            waiting = self._backend.ask(self._backend.store.find(Query(states=("queued",), order="queue", limit=1)))
            for job in filter(plain, waiting):
                read_ahead(job.plan, warm_run_options(job))
        except Exception as error:  # the run itself will report the error
            logger.debug("the prompt of the next job was not encoded ahead: %s", error)
