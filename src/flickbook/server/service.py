"""The state that all routes share: the queue, its files, the caller, and the options the service was started with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.requests import Request as HttpRequest

from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.jobs.workers.roster import Roster
from flickbook.settings import Settings
from flickbook.store.base import Store

#: The most bytes of a request body, and of one that contains an image or a film.
MAX_BODY: Final = 1 << 20
MAX_UPLOAD: Final = 256 << 20
#: Paths whose body is a dataset, and the most bytes and files of one.
DATASETS: Final = ("/api/v1/tunes", "/api/v1/tunes/check")
MAX_DATASET: Final = 1 << 30
MAX_DATASET_FILES: Final = 256


@dataclass
class Service:
    """One running service. `origins` are the origins of other sites whose pages may call it."""

    store: Store
    artifacts: ArtifactStore
    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    #: The address of a Ray cluster whose machines make the films, or "auto"; "" for worker processes on this machine.
    cluster: str = ""
    origins: tuple[str, ...] = ()
    #: Local accounts, passwords by name. They may log in beside the owners of API keys.
    accounts: Mapping[str, str] = field(default_factory=dict)
    #: Whether the service is reachable from elsewhere through a tunnel.
    shared: bool = False
    #: Further host names that it accepts; that of a tunnel is added once the tunnel is open.
    hosts: set[str] = field(default_factory=set)
    #: Hosts that webhooks may be sent to; none by default.
    webhook_hosts: tuple[str, ...] = ()
    #: Seconds for which finished jobs are kept (0 is for ever), and the most bytes that all files may take.
    keep: float = 0.0
    max_disk: int | None = None
    #: Returns the number of live worker processes of this service; None if it has none.
    alive: Callable[[], int] | None = None
    #: Set when a job was queued whose model is not on this machine; it starts the download.
    models_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    #: Held while a dataset is checked, because that loads a model.
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    queue: Queue = field(init=False)
    _roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.store, self.artifacts)
        self._roster = Roster(self.store)

    async def live_workers(self) -> int:
        """The number of live workers of the queue on all machines. Raises StoreError."""
        here = 0 if self.alive is None else self.alive()
        # Workers that share the queue with others publish notes; a worker that is alone does not.
        return max(here, len(await self._roster.alive()))

    @property
    def loras(self) -> Path:
        """The folder of the LoRAs that requests of all owners may name."""
        return self.settings.data_dir / "loras"

    def loras_of(self, owner: str) -> tuple[Path, Path]:
        """The folders of the LoRAs that an owner may name: those it trained, which come first, and those of all."""
        return self.artifacts.loras(owner), self.loras


@dataclass(frozen=True)
class Caller:
    """The caller of a request: the owner whose jobs it sees, the id of its API key, and its scopes.

    `owner` "" is the local user of a service without keys. The scopes are "read" (own jobs and films), "create"
    (create, cancel and delete own jobs) and "admin" (everything, including keys).
    """

    owner: str = ""
    key: str = ""
    scopes: frozenset[str] = frozenset({"read", "create", "admin"})

    @property
    def sees(self) -> str | None:
        """The owner whose jobs the caller sees, for queries of the queue; None for all."""
        return None if "admin" in self.scopes else self.owner


def service_of(request: HttpRequest) -> Service:
    """Return the service of the request's application."""
    found: Service = request.app.state.service
    return found
