"""A remote Flickbook service as a Source, over its /api/v1."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import urlsplit

from PIL import Image
from pydantic import ValidationError

from flickbook import __version__
from flickbook.catalogue import Model
from flickbook.conditioning import relocated
from flickbook.desktop import frame_buffer
from flickbook.desktop.sources.source import KINDS, NEWEST, Entry, Offer
from flickbook.errors import (
    FlickbookError,
    JobConflict,
    JobNotFound,
    MediaError,
    OutputError,
    RequestError,
    ServiceError,
    escaped,
    one_line,
)
from flickbook.files import replace_whole
from flickbook.spec import Plan, Request
from flickbook.store.base import ID, STATES

_ROOT: Final = "/api/v1"
#: Limits: seconds without data, and bytes of a JSON response, a picture and a film.
_PATIENCE: Final = 20.0
_MAX_TEXT: Final = 32 << 20
_MAX_PICTURE: Final = 16 << 20
_MAX_FILM: Final = 4 << 30
_PIECE: Final = 1 << 17
_MARK: Final = re.compile(r"[0-9a-f]{64}|")
#: Fields that name files, which are parts of a form.
GUIDES: Final = ("image", "last_image", "reference_images")
_UNLIKE: Final = ("does not answer as a Flickbook service", "check the address; `flickbook serve` prints it")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that the API key is sent to one service only."""

    def redirect_request(self, *_: Any) -> None:
        """Refuses the redirect."""
        return None


def address(url: str) -> str:
    """Parses the URL of a service, which may contain a path prefix. Raises RequestError."""
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        whole = False
    if not whole or "@" in text or not text.isprintable() or " " in text:
        shown = text.rpartition("@")[2]
        raise RequestError("url", shown, "is not the address of a service", "write for example http://127.0.0.1:8000")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(_ROOT).rstrip('/')}"


class Remote:
    """The service at `url`, with an API key that is sent to no other service."""

    local = False

    def __init__(self, url: str, key: str = "") -> None:
        """Raises RequestError for an invalid URL, and for a key that does not fit into a header."""
        self.url = address(url)
        if not key.isascii() or not key.isprintable():
            raise RequestError("key", "(hidden)", "is not an API key", "enter it as `flickbook keys create` printed it")
        parts = urlsplit(self.url)
        self.title = parts.netloc
        self._key = key.strip()
        self._pending: tuple[dict[str, Any], str] | None = None
        handlers: list[urllib.request.BaseHandler] = [_Stay()]
        if _loopback(parts.hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        #: The service counts bad keys against this machine, so after one nothing is sent until the source is opened
        #: again.
        self._barred: ServiceError | None = None
        self._seen: dict[str, tuple[str, bytes]] = {}
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._placing = threading.Lock()

    def open(self) -> list[Offer]:
        """Requests the models, which checks that the service exists and accepts the key."""
        self._barred = None
        found = self._json("GET", "/models")
        try:
            return [_offer(each) for each in found["data"]]
        except (ValidationError, KeyError, TypeError):
            raise ServiceError(self.title, *_UNLIKE) from None

    def close(self) -> None:
        """Deletes downloaded files."""
        with self._placing:
            place, self._place = self._place, None
        if place is not None:
            place.cleanup()

    def make(self, request: Request) -> Entry:
        """Queues a job. Raises FlickbookError with the service's message if it is refused."""
        files = dict[str, str]()
        relocated(request, lambda name, path: files.setdefault(name, path))  # the parts of the form and their files
        fields = request.model_dump(mode="json", exclude_none=True)
        # Without a response the job may exist: repeating the same request returns that job.
        if self._pending is None or self._pending[0] != fields:
            self._pending = (fields, token_urlsafe(24))
        try:
            made = self._entry(self._posted(fields, files, {"Idempotency-Key": self._pending[1]}))
        except ServiceError:
            raise
        except FlickbookError:
            self._pending = None
            raise
        self._pending = None
        return made

    def notes(self, prompt: str, model: str) -> list[str]:
        """Notes of the service's estimate; an older service sends none."""
        found = self._json("POST", "/estimate", {"prompt": prompt, "model": model})
        return _lines(found.get("notes")) if isinstance(found, dict) else []

    def entry(self, id: str) -> Entry:
        """Finds a job."""
        return self._entry(self._json("GET", f"/jobs/{id}"))

    def recent(self) -> list[Entry]:
        """The newest jobs that the key may see."""
        kinds = "&".join(f"kind={kind}" for kind in KINDS)
        found = self._json("GET", f"/jobs?limit={NEWEST}&{kinds}")
        try:
            return [self._entry(each) for each in found["data"]]
        except (KeyError, TypeError):
            raise ServiceError(self.title, *_UNLIKE) from None

    def cancel(self, id: str) -> Entry:
        """Cancels a job."""
        return self._entry(self._json("POST", f"/jobs/{id}/cancel"))

    def pause(self, id: str) -> Entry:
        """Pauses a job."""
        return self._entry(self._json("POST", f"/jobs/{id}/pause"))

    def resume(self, id: str) -> Entry:
        """Resumes a job. Raises JobConflict for a job of a command, which the service leaves paused."""
        entry = self._entry(self._json("POST", f"/jobs/{id}/resume"))
        if entry.state == "paused":
            remedy = f"a command started it: run `flickbook jobs resume {id}` on the service's machine"
            raise JobConflict(id, entry.state, "resumed by the service", remedy)
        return entry

    def preview(self, id: str) -> bytes | None:
        """The newest preview; transferred only if it changed."""
        mark, data = self._seen.get(id, ("", b""))
        try:
            with self._answer("GET", f"/jobs/{id}/preview", headers={"If-None-Match": mark} if mark else {}) as answer:
                if answer.status == HTTPStatus.NO_CONTENT:
                    return None  # not yet available
                data, mark = self._bytes(answer, _MAX_PICTURE), answer.headers.get("etag", "")
        except _NotModified:
            return data
        except FlickbookError as error:
            if isinstance(error, ServiceError):
                raise
            return None  # not yet available
        self._seen = {id: (mark, data)}
        return data

    def film(self, entry: Entry) -> Path:
        """The film, downloaded at first use."""
        path = self._kept() / f"{entry.id}-{entry.mark[:12] or 'film'}{entry.suffix}"
        if not path.is_file():
            with self._answer("GET", f"/jobs/{entry.id}/film") as answer:
                try:
                    replace_whole(path, lambda draft: self._store(answer, draft, entry.mark))
                except OSError as error:
                    raise OutputError(path, error.strerror or str(error), "free some space") from None
        return path

    def still(self, entry: Entry, side: int) -> Image.Image:
        """The thumbnail made by the service."""
        with self._answer("GET", f"/jobs/{entry.id}/thumbnail") as answer:
            image = frame_buffer.of_bytes(self._bytes(answer, _MAX_PICTURE)).frames[0]
        image.thumbnail((side, side))
        return image

    def folder(self, entry: Entry) -> Path | None:
        """None, because the file is on another machine."""
        return None

    def _kept(self) -> Path:
        with self._placing:
            if self._place is None:
                self._place = tempfile.TemporaryDirectory(prefix="flickbook-")
            return Path(self._place.name)

    def _store(self, answer: HTTPResponse, path: Path, mark: str) -> None:
        """Writes a response to a file in chunks, and checks its SHA-256 if known."""
        digest, size = hashlib.sha256(), 0
        with open(path, "wb") as file:
            while True:
                try:
                    piece = answer.read(_PIECE)
                except (OSError, HTTPException) as error:
                    raise self._away(error) from None
                if not piece:
                    break
                size += len(piece)
                if size > _MAX_FILM:
                    raise ServiceError(self.title, "sends a film of more than 4 GiB", "fetch it with another program")
                digest.update(piece)
                file.write(piece)
        if mark and digest.hexdigest() != mark:
            raise ServiceError(self.title, "sent a film that is cut short or damaged", "open it again")

    def _json(self, method: str, path: str, body: Any = None, more: Mapping[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode("ascii")
        headers = dict(more or {}) | ({} if data is None else {"Content-Type": "application/json"})
        with self._answer(method, path, data, headers) as answer:
            return self._read(answer)

    def _posted(self, fields: dict[str, Any], files: Mapping[str, str], headers: Mapping[str, str]) -> Any:
        """Sends a job: JSON, or a form if it has input files. Raises MediaError for a file that cannot be read."""
        if not files:
            return self._json("POST", "/jobs", fields, headers)
        named = {name: value for name, value in fields.items() if name not in GUIDES}
        boundary = f"flickbook-{token_urlsafe(24)}"
        parts = [("request", "application/json", json.dumps(named).encode("ascii"))]
        for name, path in files.items():
            try:
                parts.append((f'{name}"; filename="{name}', "application/octet-stream", Path(path).read_bytes()))
            except OSError as error:
                raise MediaError(path, error.strerror or "cannot be read", "choose another file") from None
        head = '--{}\r\ncontent-disposition: form-data; name="{}"\r\ncontent-type: {}\r\n\r\n'
        body = b"".join(head.format(boundary, name, kind).encode() + data + b"\r\n" for name, kind, data in parts)
        more = {**headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}
        with self._answer("POST", "/jobs", body + f"--{boundary}--\r\n".encode(), more) as answer:
            return self._read(answer)

    def _read(self, answer: HTTPResponse) -> Any:
        try:
            return json.loads(self._bytes(answer, _MAX_TEXT))
        except (ValueError, RecursionError):
            raise ServiceError(self.title, *_UNLIKE) from None

    def _answer(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        """Sends a request; returns a successful response."""
        if self._barred is not None:
            raise self._barred
        request = urllib.request.Request(f"{self.url}{_ROOT}{path}", body, headers or {}, method=method)
        request.add_header("User-Agent", f"flickbook/{__version__}")
        if self._key:
            request.add_header("Authorization", f"Bearer {self._key}")
        try:
            found: HTTPResponse = self._opener.open(request, timeout=_PATIENCE)
            return found
        except urllib.error.HTTPError as error:
            with error:
                refusal = self._refusal(error)
            raise refusal from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._away(error) from None

    def _bytes(self, answer: HTTPResponse, most: int) -> bytes:
        try:
            found = answer.read(most + 1)
        except (OSError, HTTPException) as error:
            raise self._away(error) from None
        if len(found) > most:
            raise ServiceError(self.title, f"sends more than {most >> 20} MiB", _UNLIKE[1])
        return found

    def _away(self, error: Exception) -> ServiceError:
        reason: Any = getattr(error, "reason", None) or error
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        if isinstance(reason, TimeoutError):
            text = f"no answer within {_PATIENCE:.0f} s"
        return ServiceError(
            self.title, f"cannot be reached ({text})", "check the address, and that `flickbook serve` runs there"
        )

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """Converts an error response to an exception."""
        if error.code == 304:
            return _NotModified()
        message, field = "", None
        with suppress(OSError, HTTPException, ValueError, TypeError, KeyError, AttributeError):
            body = json.loads(error.read(_MAX_TEXT))["error"]
            message, field = escaped(one_line(body["message"])), body.get("field")
        if error.code in (401, 403):
            reason = message or f"it answers {error.code}"
            refused = ServiceError(self.title, f"refuses: {reason}", "enter its address and a key with Change…")
            if error.code == 401:
                self._barred = refused
            return refused
        if not message:
            return ServiceError(self.title, *_UNLIKE)
        if error.code == 404 and field == "id":
            return JobNotFound(urlsplit(error.url).path.split("/")[-1])
        found = FlickbookError(message)
        found.field = field if isinstance(field, str) else None
        return found

    def _entry(self, job: Any) -> Entry:
        """Converts a job of a response to an Entry."""
        try:
            now, made, error = job["progress"] or {}, job["result"] or {}, job["error"]
            eta, mark = job["eta_seconds"], made.get("sha256", "")
            # These become parts of URLs and file names.
            if not ID.fullmatch(job["id"]) or not _MARK.fullmatch(mark) or job["state"] not in STATES:
                raise ValueError(job["id"])
            return Entry(
                id=job["id"],
                kind=str(job["kind"]),
                state=job["state"],
                plan=Plan.model_validate_json(json.dumps(job["plan"])),
                created_at=float(job["created_at"]),
                stopping=job["stopping"],
                phase=str(now.get("phase", "")),
                index=int(now.get("index", 0)),
                total=int(now.get("total", 0)),
                fraction=min(1.0, max(0.0, float(now.get("fraction", 0.0)))),
                eta=None if eta is None or not math.isfinite(eta) else float(eta),
                error=escaped(one_line(error["message"])) if error and job["state"] == "failed" else "",
                made=job["state"] == "completed" and "film" in job["links"],
                mark=mark,
                seconds=float(job["seconds"]),
                notes=tuple(_lines(made.get("notes"))),
            )
        except (KeyError, TypeError, ValueError, AttributeError):  # includes pydantic's errors
            raise ServiceError(self.title, *_UNLIKE) from None


class _NotModified(Exception):
    """The requested content has not changed."""


def _lines(texts: Any) -> list[str]:
    """Converts texts of a response to single lines."""
    return [escaped(one_line(text)) for text in texts or []]


def _offer(model: dict[str, Any]) -> Offer:
    """Converts a model of a response. A newer service may send unknown fields."""
    known = {name: value for name, value in model.items() if name in Model.model_fields}
    return Offer(Model.model_validate(known, strict=False), bool(model.get("here", True)))


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
