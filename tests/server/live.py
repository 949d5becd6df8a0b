"""A true service on a loopback port, in a thread of the test: uvicorn, the application, and a store in a file."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import uvicorn
from fastapi import FastAPI
from tests.patience import PATIENCE
from tests.store.examples import job

from flickbook import settings
from flickbook.jobs.api_keys import Key
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.server.access.dependencies import Guard
from flickbook.server.app import create_app
from flickbook.server.run import config as configured
from flickbook.server.run import listening
from flickbook.server.service import Service
from flickbook.store.base import Job
from flickbook.store.sqlite.store import SqliteStore

T = TypeVar("T")


@dataclass
class Live:
    """A service that runs: where it is, its parts, and a way into its event loop."""

    app: FastAPI
    service: Service
    loop: asyncio.AbstractEventLoop
    http: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def guard(self) -> Guard:
        found = self.app.state.guard
        assert isinstance(found, Guard)
        return found

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that must run where the service does."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def key(self, name: str, *scopes: str, **options: Any) -> tuple[Key, dict[str, str]]:
        """A new key, and the headers of a request that has it. The service knows it at once."""
        key, token = self.ask(self.guard.keys.create(name, scopes=scopes, **options))
        return key, {"authorization": f"Bearer {token}"}

    def job(self, **fields: Any) -> Job:
        """A job that is in the queue."""
        (added,) = self.ask(self.service.store.add([job(**fields)]))
        return added

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.http.get(self.url + path, **options)

    def delete(self, path: str, **options: Any) -> httpx2.Response:
        return httpx2.delete(self.url + path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.http.post(self.url + path, **options)

    @contextmanager
    def posting(self, path: str, body: Any, **headers: str) -> Iterator[None]:
        """A JSON POST that is sent, and whose connection is closed when the block ends, without reading an answer."""
        data = json.dumps(body)
        named = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        with socket.create_connection(("127.0.0.1", self.service.port), PATIENCE) as line:
            line.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n{data}".encode())
            yield


@contextmanager
def live(place: Path, app: Any = None, **options: Any) -> Iterator[Live]:
    """A service on a store in `place`; `told` are fields of its Service, `app` what is done to the application."""
    ready, box = threading.Event(), dict[str, Any]()

    async def main() -> None:
        store = SqliteStore(place / "flickbook.db")
        await store.open()
        service = Service(store, ArtifactStore(place / "jobs"), settings.load(), port=0, **options)
        made = create_app(service)
        if app is not None:
            app(made)
        listener = listening(service)
        config = configured(service, made)
        config.timeout_graceful_shutdown = 1
        server = box["server"] = uvicorn.Server(config)
        box["live"] = Live(made, service, asyncio.get_running_loop(), httpx2.Client(trust_env=False, timeout=PATIENCE))
        asyncio.get_running_loop().call_later(0.05, ready.set)
        await server.serve([listener])
        listener.close()
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield box["live"]
    finally:
        box["live"].http.close()
        box["server"].should_exit = True
        thread.join(PATIENCE)
