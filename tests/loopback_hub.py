"""A small server on loopback that speaks the hub's protocol, and misbehaves in every way that it is told to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and how it misbehaves."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_let_me_in"
    renamed: dict[str, str] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)  # file -> bytes sent before the line breaks, once
    stall_after: dict[str, int] = field(default_factory=dict)  # file -> bytes sent before nothing more comes, once
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    sizes: dict[str, int] = field(default_factory=dict)  # file -> bytes that the listing says it has
    corrupt: set[str] = field(default_factory=set)  # files sent with one byte changed
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    tokens: set[str] = field(default_factory=set)  # every Authorization header seen
    url: str = ""

    def sent(self, name: str) -> list[str]:
        """The ranges in which a file was asked for, "" for the whole."""
        return [span for method, path, span in self.requests if method == "GET" and path.endswith(f"/{name}")]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": message}, b"{}")

    def _send(self, status: int, headers: dict[str, str], body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        hub.tokens.add(self.headers.get("Authorization", ""))
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        if found is None:
            return self._refuse(404, "RepoNotFound", "no such page")
        repo = found[1]
        if repo in hub.renamed:
            target = self.path.replace(repo, hub.renamed[repo], 1)
            return self._send(307, {"Location": target}, b"")
        if repo not in hub.repos:
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if repo in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}" and (file or api[2]):  # type: ignore[index]
            return self._refuse(401, "GatedRepo", "Access to this model is restricted")
        revision = found[3] if api else found[2]
        if revision not in (None, "main", SHA):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if api:
            return self._listing(repo, api[2])
        return self._file(repo, found[3])

    def _listing(self, repo: str, what: str | None) -> None:
        files = self.hub.repos[repo]
        if what == "tree":
            said = [self._entry(name, data) for name, data in files.items()]
            value: object = [entry | {"size": self.hub.sizes.get(str(entry["path"]), entry["size"])} for entry in said]
        else:
            siblings = [{"rfilename": name} for name in files]
            value = {"id": repo, "modelId": repo, "sha": SHA, "siblings": siblings, "private": False, "tags": []}
        self._send(200, {}, json.dumps(value).encode())

    @staticmethod
    def _entry(name: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
        if _large(name):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, repo: str, name: str) -> None:
        hub, data = self.hub, self.hub.repos[repo].get(name)
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        tag = hashlib.sha256(data).hexdigest() if _large(name) else _blob(data)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        if _large(name):
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data))}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        body = data[first:]
        if name in hub.corrupt and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        if start:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and name in {**hub.cut_after, **hub.stall_after}:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.close_connection = True
            if name in hub.cut_after:
                self.wfile.write(body[: hub.cut_after.pop(name)])
                return
            self.wfile.write(body[: hub.stall_after.pop(name)])
            hub.stalled.set()
            hub.ended.wait(600)
            return
        self._send(206 if start else 200, headers, body, "application/octet-stream")


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".ckpt"))


@contextmanager
def serving() -> Iterator[Hub]:
    """The server, running."""
    state = Hub()
    handler = type("Handler", (_Handler,), {"hub": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
