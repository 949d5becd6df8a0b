"""Reading of an ASGI scope: headers, cookies, and responses to requests whose body is not read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

#: Seconds for which the rest of a refused body is read.
LINGER: Final = 2.0


def header(scope: Scope, name: bytes) -> str:
    """Return the first header of this name, "" if there is none."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def cookies(scope: Scope) -> str:
    """Return all cookie headers as one."""
    return "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")


def of_own_page(scope: Scope) -> bool:
    """Whether the Origin header names the host that the request was sent to."""
    try:
        return urlsplit(header(scope, b"origin")).netloc == header(scope, b"host") != ""
    except ValueError:
        return False


def has_body(scope: Scope) -> bool:
    """Whether the request has a body."""
    return header(scope, b"content-length") not in ("", "0") or header(scope, b"transfer-encoding") != ""


def lingering(receive: Receive, send: Send) -> Send:
    """Return a `send` for responses to requests whose body is not read. It closes the connection after a delay.

    If the connection were closed at once, the system would discard the response along with the unread data.
    """

    async def linger(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return linger
