"""A request as it comes over the wire: its headers, whether a body follows, and how to part before it has all come."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

#: Seconds for which the rest of a refused body is read.
LINGER: Final = 2.0


def header(scope: Scope, name: bytes) -> str:
    """The first header of this name, "" if there is none."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def cookies(scope: Scope) -> str:
    """All that a browser says it was given."""
    return "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")


def of_own_page(scope: Scope) -> bool:
    """Whether the page that sends something, as a browser names it, is one of the host that it is sent to."""
    try:
        return urlsplit(header(scope, b"origin")).netloc == header(scope, b"host") != ""
    except ValueError:
        return False


def has_body(scope: Scope) -> bool:
    """Whether a body follows the head."""
    return header(scope, b"content-length") not in ("", "0") or header(scope, b"transfer-encoding") != ""


def lingering(receive: Receive, send: Send) -> Send:
    """A `send` for answers to requests whose body is not read: the connection ends after them, but not at once.

    Were it closed at once, the system would throw the answer away together with what was not read.
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
