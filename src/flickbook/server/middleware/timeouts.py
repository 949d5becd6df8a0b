"""Connections with time limits, for clients that never finish a request or never read a response."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds within which the head of a request must arrive, and within which a client must read what was sent.
HEAD: Final = 20.0
READ: Final = 60.0


class Connection(H11Protocol):
    """Uvicorn's protocol, with time limits for the head of a request and for clients that do not read."""

    _head: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets this only for sockets with a named protocol; without it each response waits 40 ms for the
        # acknowledgement of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = self.loop.call_later(HEAD, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel("_head")
        elif self._head is None and not self.transport.is_closing():
            # The next head has begun, so the keep-alive timeout no longer applies.
            self._head = self.loop.call_later(HEAD, self._give_up)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read = self.loop.call_later(READ, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel("_read")

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel("_head")
        self._cancel("_read")
        super().connection_lost(exc)

    def _cancel(self, name: str) -> None:
        timer: Any = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _give_up(self) -> None:
        self.transport.abort()
