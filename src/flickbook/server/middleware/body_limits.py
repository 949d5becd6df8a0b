"""Limits of request bodies, checked before parsing: content type, size, speed and depth of JSON."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import accumulate
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flickbook.server.errors import refusal
from flickbook.server.middleware.raw_request import has_body, header, lingering
from flickbook.server.service import DATASETS, MAX_BODY, MAX_DATASET, MAX_UPLOAD

#: Nested objects and lists.
MAX_DEPTH: Final = 32
#: The time limit of a body: PATIENCE seconds, and one second for each SLOWEST bytes.
PATIENCE: Final = 20.0
SLOWEST: Final = 16_384
JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
_TYPES: Final = (JSON, FORM, "application/x-www-form-urlencoded")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
# An unterminated string matches to the end, so that any input takes one pass.
_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ESCAPES: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS: Final = bytes(set(range(256)) - set(_STEP))


class BodyLimits:
    """Checks request bodies. JSON is read whole here; forms are counted while they stream through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send)
        try:
            body.check()
            if body.type == JSON:
                body.replay = check_json(await body.whole())
        except HTTPException as error:
            await refusal(scope, error)(scope, receive, body.send)
            return
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request body, and the response to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._part = lingering(receive, send)
        self.type = header(scope, b"content-type").partition(";")[0].strip().lower()
        upload = MAX_DATASET if scope["path"] in DATASETS else MAX_UPLOAD
        self.limit = upload if self.type == FORM else MAX_BODY
        self.replay: bytes | None = None
        self._began, self._count = time.monotonic(), 0
        self._ended = self._refused = False

    def check(self) -> None:
        """Check the headers. Raises HTTPException."""
        if header(self._scope, b"content-encoding").lower() not in ("", "identity"):
            raise self._refuse(415, "compressed request bodies are not supported; send it uncompressed")
        length = header(self._scope, b"content-length")
        if length and header(self._scope, b"transfer-encoding"):
            # A proxy may have used the other one, so the connection must be closed (RFC 9112, section 6.3).
            raise self._refuse(400, "the request has both Content-Length and Transfer-Encoding; send one of them")
        if length.isdecimal() and int(length) > self.limit:
            raise self._too_large()
        if self._scope["method"] in _WITH_BODY and self.type not in _TYPES:
            raise self._refuse(415, f"the content type must be {JSON} or {FORM}")

    async def whole(self) -> bytes:
        """Return the whole body."""
        parts = []
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise self._refuse(400, "the body ended early")
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    async def receive(self) -> Message:
        """Return the next chunk of the body, counted and timed. A body that was read whole is returned once, as one
        chunk."""
        if self.replay is not None:
            body, self.replay = self.replay, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._ended:  # later calls wait for the client to disconnect
            return await self._receive()
        left = self._began + PATIENCE + self._count / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.001, left))
        except TimeoutError:
            raise self._refuse(408, "the body arrived too slowly") from None
        self._count += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._count > self.limit:
            raise self._too_large()
        return message

    def _too_large(self) -> HTTPException:
        return self._refuse(413, f"the body is larger than {self.limit} bytes; send less")

    def _refuse(self, status: int, text: str) -> HTTPException:
        self._refused = True
        return HTTPException(status, text)

    async def send(self, message: Message) -> None:
        """Send the response; while the rest of a refused body arrives, as `lingering` does."""
        await (self._part if self._refused and not self._ended else self._send)(message)


def check_json(body: bytes) -> bytes:
    """Return the body of a JSON request unchanged. Raises HTTPException for a body that must not reach a parser."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8; correct it") from None
    if b"\0" in body or _broken_pair(body):
        raise HTTPException(400, "the body contains a lone surrogate or a zero byte; correct it")
    if depth(body) > MAX_DEPTH:
        raise HTTPException(400, f"the body is nested deeper than {MAX_DEPTH}; flatten it")
    return body


def depth(body: bytes) -> int:
    """Return the nesting depth of a JSON text, without parsing it."""
    brackets = _TEXTS.sub(b"", body).translate(None, _NO_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") <= MAX_DEPTH:
        return brackets.count(b"[") + brackets.count(b"{")
    return max(accumulate(map(_STEP.__getitem__, brackets)))


def _broken_pair(body: bytes) -> bool:
    """Whether the body has an escaped lone surrogate. Such a string can be parsed, but not encoded as UTF-8."""
    if b"\\ud" not in body.lower():
        return False
    high_ends = -1
    for found in _ESCAPES.finditer(body):
        code = int(found[1], 16) if found[1] else 0
        if high_ends >= 0 and (high_ends != found.start() or not 0xDC00 <= code < 0xE000):
            return True
        if high_ends < 0 and 0xDC00 <= code < 0xE000:
            return True
        high_ends = found.end() if 0xD800 <= code < 0xDC00 else -1
    return high_ends >= 0
