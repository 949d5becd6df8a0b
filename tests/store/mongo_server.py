"""nx-27017, a server in Python that speaks MongoDB's wire protocol over SQLite: what the MongoDB store is tested on.

It is no MongoDB: it has no replica set, no authentication and no journal of its own. Where TEST_MONGODB_URL names a
true server, the tests of all stores run on that too.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pymongo import MongoClient
from tests.patience import PATIENCE

PROGRAM = Path(sys.executable).parent / "nx-27017"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Server:
    """A server on a free port of loopback, with all of its files in `place`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "flickbook") -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it answers."""
        # One that was killed leaves its pid file, and will not start beside it.
        (self.place / "pid").unlink(missing_ok=True)
        words = ["--host", "127.0.0.1", "-p", str(self.port), "--data-dir", str(self.place / "data")]
        files = ["--pid-file", str(self.place / "pid"), "--log-file", str(self.place / "log")]
        with (self.place / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [PROGRAM, *words, *files], stdout=out, stderr=out, cwd=self.place, preexec_fn=_die_with_parent
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"nx-27017 does not start: {(self.place / 'out').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut would end it, as far as the process goes."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


@contextmanager
def running(place: Path) -> Iterator[Server]:
    """A server of one's own, which may be killed."""
    server = Server(place)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@cache
def shared() -> Server:
    """One server for all tests of this process, ended with it."""
    place = tempfile.TemporaryDirectory(prefix="nx-27017-")
    server = Server(Path(place.name))
    server.start()
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            server.kill()
            place.cleanup()

    atexit.register(end)
    return server


@contextmanager
def database(url: str) -> Iterator[str]:
    """The address of a fresh database on the server of `url`, which is dropped afterwards."""
    name = f"flickbook-test-{uuid.uuid4().hex[:12]}"
    parts = urlsplit(url)
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        client: MongoClient[dict[str, object]] = MongoClient(url, serverSelectionTimeoutMS=5000)
        client.drop_database(name)
        client.close()
