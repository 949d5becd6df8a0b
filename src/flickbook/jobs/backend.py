"""The queue for synchronous callers: commands and workers."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from flickbook import settings
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.store.base import Store
from flickbook.store.blocking import Blocking
from flickbook.store.connect import connect

T = TypeVar("T")


def artifacts(url: str = "", jobs_dir: Path | None = None) -> ArtifactStore:
    """The artifact store in a directory, with shared storage at `url` if there is any; both default to the settings.

    Raises RequestError for a URL that cannot be opened, MissingExtra.
    """
    chosen = settings.load()
    root = (jobs_dir or chosen.jobs_dir or chosen.data_dir / "jobs").absolute()
    if not (url := url or chosen.artifacts):
        return ArtifactStore(root)
    from flickbook.jobs.shared.artifacts import SharedArtifacts

    return SharedArtifacts(root, url)


class Backend:
    """A Queue for synchronous code. Any thread may call it; coroutines run on an event loop in a background thread."""

    #: Whether jobs outlive this process.
    lasting = True

    def __init__(self, store: Store, files: ArtifactStore) -> None:
        """Opens the store. Raises StoreError."""
        self.queue, self.store, self.artifacts = Queue(store, files), store, files
        self._blocking = Blocking(store)
        self._blocking.open()

    @classmethod
    def at(cls, url: str = "", jobs_dir: Path | None = None, shared: str = "") -> Self:
        """Connects to a store by URL, with a directory and the URL of shared storage for its files; all default to the
        settings.
        """
        return cls(connect(url), artifacts(shared, jobs_dir))

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine of the queue or the store and returns its result."""
        return self._blocking.ask(coroutine)

    def close(self) -> None:
        """Closes the store. May be called twice."""
        self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
