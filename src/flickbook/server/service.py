"""What all routes share: the queue, its files, who may do what, and how the service was started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.requests import Request as HttpRequest

from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.queue import Queue
from flickbook.settings import Settings
from flickbook.store.base import Store

#: Bytes of a body, unless a route allows more, and of one that brings a picture or a film.
MAX_BODY: Final = 1 << 20
MAX_UPLOAD: Final = 256 << 20


@dataclass
class Service:
    """One service. `origins` are the pages elsewhere that may ask it."""

    store: Store
    artifacts: ArtifactStore
    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    origins: tuple[str, ...] = ()
    #: Who may log in on the page beside those who have a key: passwords by names.
    accounts: Mapping[str, str] = field(default_factory=dict)
    #: Whether it is reached from elsewhere through a tunnel.
    shared: bool = False
    #: Names that it answers to beside its own; a tunnel's is known once it stands.
    hosts: set[str] = field(default_factory=set)
    #: Hosts that webhooks may be sent to; none by default.
    webhook_hosts: tuple[str, ...] = ()
    #: Seconds for which what is done is kept, 0 for always, and bytes that all files may take.
    keep: float = 0.0
    max_disk: int | None = None
    #: How many of its workers are alive; None for a service that has none.
    alive: Callable[[], int] | None = None
    #: Set when a job was kept whose model is not on this machine: its files are downloaded then.
    models_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.store, self.artifacts)

    @property
    def loras(self) -> Path:
        """Where the LoRAs are that can be asked for by their names."""
        return self.settings.data_dir / "loras"


@dataclass(frozen=True)
class Caller:
    """Who asks: the owner whose jobs are seen, the id of the key, and what it may do.

    `owner` "" is the local person of a service without keys. The scopes are "read" (see own jobs and films), "create"
    (make, cancel, delete own), "admin" (see and do everything, keys included).
    """

    owner: str = ""
    key: str = ""
    scopes: frozenset[str] = frozenset({"read", "create", "admin"})

    @property
    def sees(self) -> str | None:
        """The owner whose jobs it sees, as the queue is asked; None for all."""
        return None if "admin" in self.scopes else self.owner


def service_of(request: HttpRequest) -> Service:
    """The service that a request came to."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found
