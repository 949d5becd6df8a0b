"""The queue for callers that run no event loop: commands and workers."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from flickbook import settings
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.store.base import Store
from flickbook.store.blocking import Blocking
from flickbook.store.connect import connect

T = TypeVar("T")


def artifacts() -> ArtifactStore:
    """Where the files of jobs are, as the settings say."""
    chosen = settings.load()
    return ArtifactStore(chosen.jobs_dir or chosen.data_dir / "jobs")


class Backend:
    """A Queue whose coroutines any thread may ask for; they run on an event loop in a thread of its own."""

    #: Whether what it keeps outlives this process.
    lasting = True

    def __init__(self, store: Store, files: ArtifactStore) -> None:
        """Opens the store. Raises StoreError."""
        self.queue, self.store, self.artifacts = Queue(store, files), store, files
        self._blocking = Blocking(store)
        self._blocking.open()

    @classmethod
    def at(cls, url: str = "", jobs_dir: Path | None = None) -> Self:
        """The one of a store's address and a directory; of the settings where they are not given."""
        return cls(connect(url), ArtifactStore(jobs_dir) if jobs_dir is not None else artifacts())

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine of the queue or of the store returns."""
        return self._blocking.ask(coroutine)

    def close(self) -> None:
        """Let go of the store; may be called twice."""
        self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
