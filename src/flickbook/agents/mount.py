"""The server over HTTP: /mcp of the service, behind its API keys, scopes, rate limits, and host and origin checks.

Only POST is served. Each request stands alone, so there is no session that a restart could lose, or that another caller
could use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flickbook.agents.tool import Parts
from flickbook.errors import FlickbookError
from flickbook.jobs import signed_links
from flickbook.jobs.api_keys import Scope as Right
from flickbook.server.access.dependencies import Guard
from flickbook.server.api.job_files import film_of, link_path
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusal
from flickbook.server.service import Caller, Service
from flickbook.server.submission import uploads
from flickbook.store.base import Job

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PATH: Final = "/mcp"


class Remote:
    """The Access of one HTTP request."""

    def __init__(self, service: Service, guard: Guard, request: Request) -> None:
        self._service, self._guard, self._request = service, guard, request

    async def admit(self, scope: Right) -> Caller:
        """Return the caller of the request. Raises HTTPException with 401 or 403, LimitReached."""
        return await self._guard.admit(self._request.scope, scope)

    async def afford(self) -> None:
        """Raise LimitReached if the caller has used up its daily quota of device seconds."""
        await self._guard.afford(self._request.scope)

    async def still_admits(self) -> bool:
        """Whether the request would be admitted now."""
        return await self._guard.still_admits(self._request.scope)

    def film(self, job: Job) -> Path:
        """Return the path of a film in the artifact store. Raises JobNotFound, JobConflict."""
        return film_of(self._service, job)

    def opened(self, field: str, text: str) -> IO[bytes]:
        """Return a picture in a data: URL. Raises RequestError for anything else: no file is opened, no URL fetched."""
        return uploads.inline(field, text)

    async def address(self, caller: Caller, job: Job) -> str:
        """Return a signed link that needs no key; for a caller that only reads, the address that needs its key."""
        self.film(job)
        base = str(self._request.base_url).rstrip("/")
        if not caller.scopes & {"create", "admin"}:
            return f"{base}{ROOT}/jobs/{job.id}/film"
        return base + await self._guard.link(caller, link_path(job.id, "film"), job.owner, signed_links.LONGEST)


class Endpoint:
    """The application at PATH. The SDK takes most of a second to import, so it is loaded at the first request."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._guard: Guard = app.state.guard
        self._manager: StreamableHTTPSessionManager | None = None
        self._starting = asyncio.Lock()
        self._over = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise HTTPException(405, "only POST is supported; requests need no session", {"allow": "POST"})
            await self._guard.admit(scope, "read")
        except (HTTPException, FlickbookError) as error:
            await refusal(scope, error)(scope, receive, send)
            return
        await (await self._started()).handle_request(scope, receive, send)

    async def _started(self) -> StreamableHTTPSessionManager:
        """Return the SDK's server, which runs from the first request on."""
        async with self._starting:
            if self._manager is None:
                manager = await asyncio.to_thread(_manager, self._app)
                runs = asyncio.Event()
                self._serving = asyncio.create_task(self._serve(manager, runs))
                begun = asyncio.ensure_future(runs.wait())
                await asyncio.wait((begun, self._serving), return_when=asyncio.FIRST_COMPLETED)
                if not begun.done():
                    begun.cancel()
                    failed, self._serving = self._serving, None
                    await failed  # raises the error of its start; the next request tries again
                self._manager = manager
            return self._manager

    async def _serve(self, manager: StreamableHTTPSessionManager, runs: asyncio.Event) -> None:
        """Run the manager until the service stops. It must end in the task in which it began."""
        async with manager.run():
            runs.set()
            await self._over.wait()

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """End the server at the end of the context."""
        try:
            yield
        finally:
            self._over.set()
            if self._serving is not None:
                await self._serving


def _manager(app: FastAPI) -> StreamableHTTPSessionManager:
    """Return the SDK's server over HTTP for the application of a service."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from flickbook.agents.protocol import server_of

    service: Service = app.state.service
    guard: Guard = app.state.guard

    async def began() -> None:
        """The service's workers look for jobs themselves."""

    def access(request: Any) -> Remote:
        return Remote(service, guard, request)

    server = server_of(Parts(service, app.state.line, access, app.state.closing, began))
    return StreamableHTTPSessionManager(server, stateless=True)


def mount(app: FastAPI) -> None:
    """Mount the server on the application of a service."""
    endpoint = Endpoint(app)
    app.state.guard.readable.add(PATH)
    app.router.routes.append(Route(PATH, endpoint))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(own: FastAPI) -> AsyncIterator[Any]:
        async with before(own) as state, endpoint.living():
            yield state

    app.router.lifespan_context = lifespan
