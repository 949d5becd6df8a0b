"""The outermost middleware: request ids, access log, metrics, and the security headers of responses."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flickbook.server import errors
from flickbook.server.middleware.raw_request import header
from flickbook.server.operations import logs
from flickbook.server.operations.health import Metrics
from flickbook.store.base import ID

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Default headers of responses. A browser may show a response, but must not run anything in it.
SAFE_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
_MEDIA: Final = ("video/", "image/")

logger = logging.getLogger(__name__)
access = logging.getLogger("flickbook.server.access")


class RequestContext:
    """The outermost middleware. Logs an unexpected exception with its traceback and answers 500 with the request's
    id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        requested = header(scope, b"x-request-id")
        id = requested if _PLAIN.fullmatch(requested) else secrets.token_hex(12)
        logs.request_id.set(id)
        found = ID.search(scope["path"])
        logs.job_id.set(f"job_{found[0][-26:]}" if found else "")
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                add_default_headers(MutableHeaders(scope=message), id)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            logger.exception("unexpected error in %s %s", scope["method"], scope["path"])
            if not status:
                text = f"unexpected error; see request {id} in the log of the service"
                await errors.answer(scope, 500, "unexpected", text)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.count(scope, status or 499, seconds)
            _log(scope, status or 499, seconds)


def add_default_headers(headers: MutableHeaders, id: str) -> None:
    """Add the default headers that a response lacks."""
    headers["x-request-id"] = id
    for name, value in SAFE_HEADERS.items():
        headers.setdefault(name, value)
    media = headers.get("content-type", "").startswith(_MEDIA)
    headers.setdefault("cache-control", "private" if media else "no-store")


def _log(scope: Scope, status: int, seconds: float) -> None:
    if not access.isEnabledFor(logging.INFO):
        return
    # Without the query, which may contain the signature of a link.
    extra = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 6),
        "client": (scope.get("client") or ("",))[0],
    }
    access.info("%s %s %d", scope["method"], scope["path"], status, extra=extra)
