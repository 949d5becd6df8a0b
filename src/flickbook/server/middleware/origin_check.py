"""Checks of a request before its route or body: the Host header, the Origin header, and the caller."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence, Set
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from flickbook.errors import FlickbookError
from flickbook.server.access.dependencies import SAFE, Guard, is_loopback
from flickbook.server.errors import refusal
from flickbook.server.middleware.raw_request import has_body, header, lingering, of_own_page
from flickbook.server.service import Service

_WILD: Final = frozenset({"", "0.0.0.0", "::"})


class Hosts:
    """Accepts only the service's own host names, as a protection against DNS rebinding.

    An IP address cannot be rebound, so a service bound to all interfaces accepts any IP address as its host.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._wild, self._too = service.host in _WILD, service.hosts
        names = [service.host, *(urlsplit(origin).hostname or "" for origin in service.origins)]
        self._names = {name.lower() for name in names if name} - _WILD
        if self._wild:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._ours(header(scope, b"host")):
            error = HTTPException(
                421, "the Host header does not name this service; use its own host name, or start it with --origin"
            )
            await refusal(scope, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if is_loopback(name) or name in self._names or name in self._too:
            return True
        return self._wild and _is_address(name)


class OriginCheck:
    """Authenticates writing requests before any of their body is read.

    Requests to the paths in `public` (the login) need no key, but must come from the service's own pages. Those to the
    readable paths of the guard need the scope "read", all others "create".
    """

    def __init__(self, app: ASGIApp, guard: Guard, origins: Sequence[str], public: Set[str] = frozenset()) -> None:
        self._app, self._guard, self._origins, self._public = app, guard, frozenset(origins), public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE:
            try:
                self._check_origin(scope)
                if scope["path"] not in self._public:
                    await self._guard.admit(scope, "read" if scope["path"] in self._guard.readable else "create")
            except (HTTPException, FlickbookError) as error:
                part = lingering(receive, send) if has_body(scope) else send
                await refusal(scope, error)(scope, receive, part)
                return
        await self._app(scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        """Raise HTTPException with 403 for a request from another site's page. Only browsers send these headers."""
        origin = header(scope, b"origin")
        if origin in self._origins or of_own_page(scope):
            return
        if origin or header(scope, b"sec-fetch-site") in ("cross-site", "same-site"):
            raise HTTPException(403, "the request comes from another origin; allow it with --origin")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
