"""The server over standard input and output, for an agent on this machine.

It works on the local queue, as the command line does: it sees the jobs of the local user. Worker processes of its own
start with the first job, or at once if jobs wait already. If a service or another agent's server uses the same store,
its workers take jobs from the same queue. When the agent leaves, the workers save checkpoints and release their jobs;
the next server or service continues them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from flickbook import formats
from flickbook.agents.protocol import server_of
from flickbook.agents.tool import Parts
from flickbook.errors import JobNotFound, RequestError
from flickbook.files import open_below
from flickbook.jobs.api_keys import Scope
from flickbook.jobs.webhooks import Webhooks
from flickbook.jobs.workers.supervisor import Supervisor
from flickbook.server.api import pulls
from flickbook.server.api.job_files import film_of
from flickbook.server.operations.maintenance import periodic_tasks
from flickbook.server.run import supervisor_of
from flickbook.server.service import Caller, Service
from flickbook.server.submission import uploads
from flickbook.server.submission.queue_position import Line
from flickbook.store.base import Job


class Local:
    """The Access of the local user's agent. It may name files below `roots`."""

    def __init__(self, service: Service, scopes: Collection[Scope], roots: Sequence[Path] = ()) -> None:
        self._service, self._roots = service, tuple(root.absolute() for root in roots)
        self._caller = Caller(scopes=frozenset(scopes))

    async def admit(self, scope: Scope) -> Caller:
        """Return the caller. Raises RequestError if the server was started without the scope."""
        if not self._caller.scopes & {scope, "admin"}:
            limit = f"this server was started without the scope {scope}"
            raise RequestError("scope", ", ".join(sorted(self._caller.scopes)), limit, f"add --scope {scope}")
        return self._caller

    async def afford(self) -> None:
        """The local user has no quota."""

    async def still_admits(self) -> bool:
        """The local user stays admitted."""
        return True

    def film(self, job: Job) -> Path:
        """Return the path of a film, also of one that a command wrote elsewhere. Raises JobNotFound."""
        if job.home != "command" or job.result is None:
            return film_of(self._service, job)
        path = Path(job.result.path)
        if formats.is_frames(job.result.path) or not path.is_file():
            raise JobNotFound(job.id)
        return path

    def opened(self, field: str, text: str) -> IO[bytes]:
        """Return a picture in a data: URL, or a file below a root. Raises RequestError."""
        if text.startswith("data:"):
            return uploads.inline(field, text)
        if not self._roots:
            limit = "names a file, and this server was started without --root"
            raise RequestError(
                field, text, limit, "start it with --root DIR, or send a picture as data:image/png;base64,…"
            )
        for root in self._roots:
            with suppress(OSError, ValueError):
                return open_below(root, root / text)
        raise RequestError(field, text, "no such file below the roots of this server", "name a file that is there")

    async def address(self, _: Caller, job: Job) -> str:
        """Return the film's file as a URL."""
        return self.film(job).absolute().as_uri()


class Workers:
    """The worker processes of this server: none until there is something to do."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._supervisor: Supervisor | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the workers, unless they run or were not asked for."""
        async with self._starting:
            if self._supervisor is None and self._service.workers:
                supervisor = await asyncio.to_thread(supervisor_of, self._service)
                await asyncio.to_thread(supervisor.start)
                self._supervisor = supervisor
                self._service.alive = lambda: supervisor.alive

    async def stop(self) -> None:
        """Let the workers release their jobs with checkpoints, and end them."""
        if self._supervisor is not None:
            await asyncio.to_thread(self._supervisor.stop)


def run(service: Service, scopes: Collection[Scope], roots: Sequence[Path] = ()) -> None:
    """Serve one agent with these scopes until standard input ends or a signal arrives. Raises StoreError, RequestError
    for a root that is no directory.

    Only the protocol writes to standard output; everything else goes to standard error.
    """
    for root in roots:
        if not root.is_dir():
            raise RequestError(
                "root", root, "is no directory", "name a directory with the files that the agent may use"
            )
    asyncio.run(_serve(service, Local(service, scopes, roots)))


async def _serve(service: Service, access: Local) -> None:
    await service.store.open()
    try:
        # Workers start inside, where their standard output is standard error.
        async with stdio_server() as (read, write):
            async with _working(service) as workers:
                line = Line(service.queue, service.live_workers)
                server = server_of(Parts(service, line, lambda _: access, asyncio.Event(), workers.start))
                left = await _until_signal(server, read, write)
            if not left:
                await service.store.close()
                # A thread still waits for a line of standard input, and nothing can interrupt it.
                os._exit(0)
    finally:
        await service.store.close()


async def _until_signal(server: Server[Any], read: Any, write: Any) -> bool:
    """Serve until the agent leaves or a signal arrives. Returns whether the agent left."""
    serving = asyncio.ensure_future(server.run(read, write, server.create_initialization_options()))
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return False
    return True


@asynccontextmanager
async def _working(service: Service) -> AsyncIterator[Workers]:
    """Tend the queue as the service does, with workers once there is something to do."""
    workers, downloads = Workers(service), pulls.Pulls()
    webhooks = Webhooks(service.store, service.webhook_hosts)
    async with periodic_tasks(service, webhooks), pulls.supplied(service, downloads):
        try:
            counts = await service.store.counts()
            if counts["queued"] or counts["running"]:
                await workers.start()
            yield workers
        finally:
            await downloads.stop()
            await workers.stop()
