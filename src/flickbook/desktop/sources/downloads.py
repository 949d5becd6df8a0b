"""Downloads the models of queued local jobs while the window is open, if the setting `pull` is auto."""

from __future__ import annotations

import logging
import threading
from typing import Final

from flickbook import catalogue
from flickbook.errors import Cancelled, FlickbookError, HubError
from flickbook.hub.fetch import fetch
from flickbook.hub.find import to_pull
from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.store.base import Query, State

#: Seconds between two checks of the queue, and the number of queued jobs that are checked.
_LOOK: Final = 5.0
_AMONG: Final = 1000
#: Seconds that an unresponsive hub may delay the exit.
_PATIENCE: Final = 10.0
_QUEUED: Final[tuple[State, ...]] = ("queued",)

logger = logging.getLogger(__name__)


class Downloads:
    """A thread that downloads the models of queued jobs one by one until `stop`."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._stopped, self._wake = backend, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="downloads", daemon=True)
        backend.artifacts.end_pull()
        self._thread.start()

    def look(self) -> None:
        """Checks the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Stops the download; the next one continues it."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                jobs = self._backend.ask(self._backend.store.find(Query(states=_QUEUED, order="queue", limit=_AMONG)))
                for name in dict.fromkeys(name for job in jobs if not job.model_dir for name in job.plan.models()):
                    if to_pull(name):
                        self._download(name)
            except Cancelled:
                return
            except FlickbookError as error:
                logger.error("%s", error)
            self._wake.wait(_LOOK)

    def _download(self, name: str) -> None:
        """Downloads a model. On failure the jobs that wait for it fail with the same error."""

        def on_bytes(done: int, total: int) -> None:
            if self._stopped.is_set():
                raise Cancelled
            self._backend.artifacts.write_pull_progress(name, done, total)

        self._backend.artifacts.write_pull_progress(name, 0, None)
        try:
            fetch(catalogue.find(name), on_bytes)
            if to_pull(name):
                raise HubError(name, "its repository is not a model in diffusers' layout", "choose another model")
        except Cancelled:
            raise
        except FlickbookError as error:
            reason = f"{name} could not be downloaded: {error}"
            store = self._backend.store
            for job in self._backend.ask(store.find(Query(states=_QUEUED, limit=_AMONG))):
                if job.plan.model == name and not job.model_dir:
                    self._backend.ask(store.change(job.id, _QUEUED, queue.failed(job, reason, code="hub")))
        finally:
            self._backend.artifacts.end_pull(name)
