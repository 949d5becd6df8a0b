"""A door in front of nx-27017 that makes it look like a replica set of one, notes what is asked, and can be shut.

nx-27017 is one server without a replica set. Behind this door the driver and the store behave as with Atlas: majorities
are asked for, writes are retried. It proves what is sent, not what a true replica set makes of it.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson

_MESSAGE, _REPLY, _QUERY = 2013, 1, 2004
_HELLO = {"hello", "ismaster", "isMaster"}
#: Before the document of each kind of message: flags and more.
_LEAD = {_MESSAGE: 5, _REPLY: 20}


class RequestContext(socketserver.ThreadingTCPServer):
    """Commands pass until `left` of them have (None: all); then every connection is cut."""

    daemon_threads = True

    def __init__(self, behind: int, left: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.behind = behind
        self.left = left
        #: Commands that are answered as by a primary that has just stepped down, and one of how many they are.
        self.elections, self.every = 0, 5
        self.seen = 0
        self.commands: list[dict[str, Any]] = []
        self.counting = threading.Lock()

    def url(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self.server_address[1]}/{database}"

    def passes(self, command: dict[str, Any]) -> bool:
        with self.counting:
            name = next(iter(command))
            if name in _HELLO or name == "endSessions":
                return self.left is None or self.left > 0
            self.commands.append(command)
            if self.left is not None:
                self.left -= 1
            return self.left is None or self.left >= 0

    def steps_down(self, command: dict[str, Any]) -> bool:
        """Whether this command meets an election: it is refused and not executed."""
        with self.counting:
            if not self.elections or next(iter(command)) in _HELLO:
                return False
            self.seen += 1
            if self.seen % self.every:
                return False
            self.elections -= 1
            return True

    def disguised(self, reply: dict[str, Any]) -> dict[str, Any]:
        me = f"127.0.0.1:{self.server_address[1]}"
        sessions = {"logicalSessionTimeoutMinutes": 30}  # without it the driver repeats no write
        return {**reply, **sessions, "setName": "rs0", "setVersion": 1, "hosts": [me], "primary": me, "me": me}


class _Passing(socketserver.BaseRequestHandler):
    server: RequestContext

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.behind)) as behind:
            try:
                while True:
                    requested = _whole(self.request)
                    command = _document(requested)
                    if not self.server.passes(command):
                        return
                    if self.server.steps_down(command):
                        self.request.sendall(_refusal(requested))
                        continue
                    behind.sendall(requested)
                    answer = _whole(behind)
                    if next(iter(command)) in _HELLO:
                        answer = _with(answer, self.server.disguised(_document(answer)))
                    self.request.sendall(answer)
            except (ConnectionError, EOFError):
                return


def _whole(source: socket.socket) -> bytes:
    head = _exactly(source, 4)
    return head + _exactly(source, struct.unpack("<i", head)[0] - 4)


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = source.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def _start(message: bytes) -> int:
    code = struct.unpack_from("<i", message, 12)[0]
    if code == _QUERY:
        return message.index(b"\0", 20) + 9
    return 16 + _LEAD[code]


def _document(message: bytes) -> dict[str, Any]:
    start = _start(message)
    length = struct.unpack_from("<i", message, start)[0]
    return bson.decode(message[start : start + length])


def _refusal(requested: bytes) -> bytes:
    """The answer of a server that is no primary any more, to a message of the present protocol."""
    error = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
    error |= {"errorLabels": ["RetryableWriteError"]}
    body = bytes(5) + bson.encode(error)
    number = struct.unpack_from("<i", requested, 4)[0]
    return struct.pack("<iiii", 16 + len(body), number + 1, number, _MESSAGE) + body


def _with(message: bytes, document: dict[str, Any]) -> bytes:
    body = message[4 : _start(message)] + bson.encode(document)
    return struct.pack("<i", len(body) + 4) + body


@contextmanager
def front(behind: int, left: int | None = None) -> Iterator[RequestContext]:
    """A door that is open as long as it is entered."""
    with RequestContext(behind, left) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
