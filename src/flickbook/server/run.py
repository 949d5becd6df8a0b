"""The server process: it opens the store, listens, runs its workers, and shuts down cleanly.

On SIGTERM or Ctrl-C it accepts no more connections. Its workers interrupt their jobs, each with a checkpoint, and
release their leases. It lets running responses end, and closes the store. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from flickbook.errors import FlickbookError, RequestError, StoreError
from flickbook.jobs.api_keys import Keys
from flickbook.jobs.workers.supervisor import Supervisor
from flickbook.server.access.dependencies import LOST, is_loopback
from flickbook.server.app import create_app
from flickbook.server.middleware.timeouts import Connection
from flickbook.server.service import Service

#: Seconds in which running responses may end at shutdown.
GRACE: Final = 5
#: Connections that may wait to be accepted, and the keep-alive timeout in seconds.
_BACKLOG: Final = 2048
_REST: Final = 20
_FILES: Final = 65_536


Dress = Callable[[FastAPI], Any]
Opened = Callable[[str], Awaitable[None]]


def run(service: Service, dress: Dress | None = None, opened: Opened | None = None) -> None:
    """Serve until a signal comes. Raises RequestError for an address that cannot be used, and StoreError.

    `dress` adds the parts of higher layers to the application. `opened` is called with the URL once the server listens.
    """
    _more_files()
    asyncio.run(_serve(service, dress, opened))
    print("stopped", file=sys.stderr)


async def _serve(service: Service, dress: Dress | None, opened: Opened | None) -> None:
    await service.store.open()
    try:
        await _require_authentication(service)
        listener = listening(service)
        supervisor = supervisor_of(service)
        if not service.cluster:  # otherwise the process is a driver, which makes no films
            service.alive = lambda: supervisor.alive
        try:
            await _Server(service, supervisor, dress, opened).serve([listener])
        finally:
            listener.close()
            await asyncio.to_thread(supervisor.stop)
    finally:
        await service.store.close()


def supervisor_of(service: Service) -> Supervisor:
    """Return what starts the workers: processes here, or one that keeps actors on a Ray cluster."""
    chosen, root, workers = service.settings, service.artifacts.root, service.workers
    arguments = [] if chosen.batch is None else ["--batch", str(chosen.batch)]
    if service.cluster:
        arguments += ["--address", service.cluster, "--most", str(workers)]
        return Supervisor(chosen.store, root, 1, arguments, chosen.artifacts, "flickbook.jobs.cluster.driver")
    arguments += ["--peers"] if workers > 1 or chosen.artifacts else []
    return Supervisor(chosen.store, root, workers, arguments, chosen.artifacts)


async def _require_authentication(service: Service) -> None:
    """Raise RequestError if others could reach the service without a key or a login."""
    if service.accounts:
        return
    if is_loopback(service.host) and not service.shared:
        with suppress(StoreError):  # damaged keys are reported to each request
            if await Keys(service.store).lost():
                print(f"note: {LOST}", file=sys.stderr)
        return
    if any(key.state == "live" for key in await Keys(service.store).list()):
        return
    if service.shared:
        remedy = "add --auth NAME:PASSWORD, or make a key with `flickbook keys create --name NAME`"
        raise RequestError("share", True, "anyone with the address could use the studio, and there is no login", remedy)
    limit = "other machines can reach this address, and there is no valid API key"
    raise RequestError("host", service.host, limit, "make one with `flickbook keys create --name NAME`")


def listening(service: Service) -> socket.socket:
    """Return a listening socket and set the service's `port` to its port. Raises RequestError."""
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    try:
        listener = socket.create_server((service.host, service.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        place = f"{service.host}:{service.port}"
        raise RequestError("port", place, error.strerror or str(error), "choose another with --port") from None
    service.port = listener.getsockname()[1]
    return listener


def config(service: Service, app: FastAPI) -> uvicorn.Config:
    """Return uvicorn's configuration. Forwarded headers are read from trusted proxies only, since any other client
    could forge them."""
    chosen = service.settings
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(chosen.trusted_proxies),
        forwarded_allow_ips=list(chosen.trusted_proxies),
        timeout_keep_alive=_REST,
        timeout_graceful_shutdown=GRACE,
    )


class _Server(uvicorn.Server):
    """Uvicorn's server, with workers that start and stop with it."""

    def __init__(
        self, service: Service, supervisor: Supervisor, dress: Dress | None = None, opened: Opened | None = None
    ) -> None:
        self._app = create_app(service)
        if dress is not None:
            dress(self._app)
        super().__init__(config(service, self._app))
        self._service, self._supervisor, self._opened = service, supervisor, opened
        self._opening: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, start the workers, and print the URL to stderr."""
        await super().startup(sockets)
        await asyncio.to_thread(self._supervisor.start)
        host = f"[{self._service.host}]" if ":" in self._service.host else self._service.host
        url = f"http://{host}:{self._service.port}"
        print(f"serving at {url} from {self._service.store.title}", file=sys.stderr)
        if self._opened is not None:
            self._opening = asyncio.ensure_future(self._open(url))

    async def _open(self, url: str) -> None:
        assert self._opened is not None
        try:
            await self._opened(url)
        except FlickbookError as error:
            print(f"error: {error}", file=sys.stderr)
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the workers, which save checkpoints, while the last responses are sent."""
        leaving = asyncio.create_task(asyncio.to_thread(self._supervisor.stop))
        self._app.state.closing.set()
        await super().shutdown(sockets)
        await leaving

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down cleanly on a signal, with exit code 0; uvicorn would raise the signal again for a parent
        process."""
        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _more_files() -> None:
    """Raise the limit of open files: each connection is one, and the usual limit is low."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
