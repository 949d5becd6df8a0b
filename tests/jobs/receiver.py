"""One who is told: an HTTP server on loopback that keeps what it is sent, and answers as it is told to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What came, as (path, headers, body); `answers` are the statuses to come, 200 afterwards; 0 is silence
    until the receiver is closed.

    `broken_off` says that a client closed its connection before it had read the whole answer.
    """

    port: int = 0
    deliveries: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    body: bytes = b"thanks"
    broken_off: bool = False
    closed: threading.Event = field(default_factory=threading.Event)

    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.deliveries]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.deliveries]


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.deliveries.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status = found.answers.pop(0) if found.answers else 200
            if not status:
                found.closed.wait()
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"http://127.0.0.1:{found.port}/elsewhere")
            self.end_headers()
            try:
                self.wfile.write(found.body)
            except OSError:
                found.broken_off = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who hangs up early is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.closed.set()
        server.shutdown()
        server.server_close()
