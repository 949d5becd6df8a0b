"""Mounts the studio at /studio of the service, with access control and a list of Gradio's reachable routes.

Gradio takes seconds to import, so the page is built at its first request. Only the routes that the page needs are
reachable: no file passes through Gradio's cache, which serves a file to any caller who knows its path.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from flickbook.errors import FlickbookError
from flickbook.server.access.dependencies import SAFE, Guard
from flickbook.server.errors import refusal
from flickbook.server.middleware.body_limits import JSON
from flickbook.server.middleware.raw_request import header
from flickbook.web import login
from flickbook.web.login import LOGIN, LOGOUT, OWN_ORIGIN, PATH, PREVIEW

STATIC: Final = Path(__file__).parent / "static"
#: Reachable routes of Gradio, below PATH: its page and static files, and calls of the page's functions.
_OPEN: Final = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/(?:assets|static|svelte)/.+"
    r"|/gradio_api/(?:info/?|openapi\.json|app_id/?|startup-events|theme\.css|queue/join|queue/data|cancel|reset/?"
    r"|heartbeat/[a-z0-9]+|call/generate(?:/[a-z0-9]+)?)"
)
_LASTING: Final = ("/assets/", "/static/")
#: Gradio's own tags for link previews.
_TAGS: Final = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*')
_TITLE: Final = f"<title>Flickbook studio</title>{PREVIEW}</head>".encode()
_MESSAGES: Final = re.compile(r"/gradio_api/call/generate/([a-z0-9]+)")
#: Nothing is loaded from other hosts, even if a prompt contains HTML. Gradio's page needs inline scripts and eval.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def mount(app: FastAPI) -> Studio:
    """Mount the studio on the application of a service. Its page is built at the first request."""
    studio = Studio(app)
    app.include_router(login.router)
    app.state.public.update({LOGIN, LOGOUT})
    app.mount(f"{PATH}/own", StaticFiles(directory=STATIC), name="studio-own")
    app.mount(PATH, studio, name="studio")
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(own: FastAPI) -> AsyncIterator[Any]:
        async with before(own) as state, studio.living():
            yield state

    app.router.lifespan_context = lifespan
    return studio


class Studio:
    """Gradio's application behind the guard of the service."""

    def __init__(self, parent: FastAPI) -> None:
        self._parent = parent
        self._inner: FastAPI | None = None
        self._making = asyncio.Lock()
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Close Gradio's application at the end of the context."""
        async with self._stack:
            yield

    async def ready(self) -> FastAPI:
        """Return Gradio's application; build it at the first call."""
        async with self._making:
            if self._inner is None:
                inner = await asyncio.to_thread(_made, self._parent)
                await self._stack.enter_async_context(inner.router.lifespan_context(inner))
                self._inner = inner
            return self._inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path = scope["path"][len(PATH) :]
            if scope["type"] != "http" or not _OPEN.fullmatch(path) or ".." in path:
                raise HTTPException(404, "no such page")
            guard: Guard = self._parent.state.guard
            await guard.admit(scope, "read")
        except (HTTPException, FlickbookError) as error:
            accept = dict(scope["headers"]).get(b"accept", b"")
            away = getattr(error, "status_code", 0) == 401 and scope["method"] == "GET" and b"text/html" in accept
            answer = RedirectResponse(LOGIN, 303) if away else refusal(scope, error)
            await answer(scope, receive, send)
            return
        if scope["method"] not in SAFE:
            try:
                receive = await _plain(scope, receive)
            except HTTPException as error:
                await refusal(scope, error)(scope, receive, send)
                return
        inner = await self.ready()
        session = _session(scope, path)
        if session is not None and session not in inner.state.blocks._queue.pending_messages_per_session:
            # Gradio would answer 200 and then log a traceback.
            await refusal(scope, HTTPException(404, "no such session"))(scope, receive, send)
            return
        own = {**scope, "root_path": scope.get("app_root_path", "")}
        await self._until_closing(inner(own, receive, _dressed(send, path)))

    async def _until_closing(self, answer: Any) -> None:
        """Run a response, but end open streams when the service stops."""
        answering = asyncio.ensure_future(answer)
        closing = asyncio.ensure_future(self._parent.state.closing.wait())
        try:
            await asyncio.wait({answering, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
            await asyncio.gather(answering, return_exceptions=closing.done())
        finally:
            closing.cancel()
            answering.cancel()


async def _plain(scope: Scope, receive: Receive) -> Receive:
    """Check that a body names no file, and return a `receive` that replays it.

    Gradio fetches an object with a path or a URL among the values as a file. No value of this page is an object. Raises
    HTTPException.
    """
    if header(scope, b"content-type").partition(";")[0].strip().lower() not in ("", JSON):
        raise HTTPException(415, f"the type of the body must be {JSON}")
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the body ended early")
        parts.append(message.get("body", b""))
        more = bool(message.get("more_body"))
    whole = b"".join(parts)
    try:
        found = json.loads(whole or b"{}")
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(found, dict) or _holds_object(found.get("data")) or _typed(found):
        raise HTTPException(400, "a value must be a text, a number, yes or no, or a list of them, and no file")
    messages = iter([{"type": "http.request", "body": whole, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


def _session(scope: Scope, path: str) -> str | None:
    """Return the session of Gradio's queue whose messages a request reads; None for other requests."""
    if path == "/gradio_api/queue/data":
        return QueryParams(scope["query_string"]).get("session_hash")
    match = _MESSAGES.fullmatch(path)
    return match[1] if match else None


def _holds_object(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_object, value))
    return isinstance(value, dict)


def _typed(value: Any) -> bool:
    """Whether a value contains a type marker of Gradio."""
    if isinstance(value, list):
        return any(map(_typed, value))
    return isinstance(value, dict) and ("_type" in value or any(map(_typed, value.values())))


def _dressed(send: Send, path: str) -> Send:
    """Return a `send` that adds the security headers of the page, and replaces the link preview of its HTML."""
    start: list[Message] = []
    parts: list[bytes] = []

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = _POLICY
            headers.update(OWN_ORIGIN)
            if path.startswith(_LASTING):  # their names contain a hash of their content
                headers["cache-control"] = "private, max-age=31536000, immutable"
            if headers.get("content-type", "").startswith("text/html"):
                start.append(message)  # its length changes with the body
                return
        if not start:
            await send(message)
            return
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            page = _TAGS.sub(b"", b"".join(parts)).replace(b"</head>", _TITLE, 1)
            MutableHeaders(scope=start[0])["content-length"] = str(len(page))
            await send(start[0])
            await send({"type": "http.response.body", "body": page})

    return answer


def _made(parent: FastAPI) -> FastAPI:
    """Build Gradio's application for its path below the service. Blocks."""
    import gradio as gr

    from flickbook.web.page import page

    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks, looks = page(parent.state.service, parent.state.guard)
    inner.state.blocks = blocks
    gr.mount_gradio_app(inner, blocks, PATH, footer_links=[], run_history=False, ssr_mode=False, pwa=False, **looks)
    return inner
