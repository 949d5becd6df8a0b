"""Files by name at a URL: a shared directory, S3-compatible storage, or whatever fsspec has a file system for.

    <url>/<name>/manifest.json     size, SHA-256, and the parts with their SHA-256; small files are stored inside it
    <url>/<name>/<sha256>          a part of the file, named by its content

Parts are written first and the manifest last, so a reader sees the old file or the new one and never a mixture. A part
that is stored already is not sent again: an upload that was interrupted continues where it stopped. Every byte that is
read is checked against its hash.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from flickbook.errors import MissingExtra, RequestError, StoreError
from flickbook.files import replace_whole
from flickbook.store.connect import hidden

T = TypeVar("T")
#: Bytes of a part, and of a file that is stored inside its manifest.
PART: Final = 8 << 20
INLINE: Final = 32 << 10
_MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 4 << 20
_DIGEST: Final = re.compile("[0-9a-f]{64}")
#: Seconds to wait before each further try of a request that failed.
WAITS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
#: Storage that shows an object only when it is complete. Elsewhere a part is written under another name and renamed.
_ATOMIC: Final = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "az", "memory"))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What is stored under a name: size in bytes, SHA-256, and parts (SHA-256, size); `data` of a small file; when the
    file was written, in seconds since 1970.
    """

    size: int
    sha256: str
    parts: tuple[tuple[str, int], ...] = ()
    data: bytes | None = None
    modified: float = 0.0

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        found: dict[str, Any] = {"version": 1, "size": self.size, "sha256": self.sha256, "modified": self.modified}
        if self.data is None:
            found["parts"] = self.parts
        else:
            found["data"] = base64.b64encode(self.data).decode("ascii")
        return json.dumps(found).encode("ascii")

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Reads a stored manifest. Raises ValueError for anything else."""
        try:
            found = json.loads(text)
            if found["version"] != 1:
                raise ValueError(f"version {found['version']} of a manifest is not known")
            data = base64.b64decode(found["data"], validate=True) if "data" in found else None
            parts = tuple((str(digest), int(size)) for digest, size in found.get("parts", ()))
            manifest = cls(int(found["size"]), str(found["sha256"]), parts, data, float(found["modified"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error}") from None
        if not all(_DIGEST.fullmatch(digest) for digest in (manifest.sha256, *(digest for digest, _ in parts))):
            raise ValueError("not a manifest: it names parts by something else than a SHA-256")
        if manifest.size != (sum(size for _, size in parts) if data is None else len(data)):
            raise ValueError("not a manifest: its size is not that of its parts")
        return manifest


class RemoteFiles:
    """The files below a URL.

    Every method blocks, may be called by any thread, and raises StoreError if the storage does not respond or a part is
    damaged.
    """

    def __init__(self, url: str, waits: tuple[float, ...] = WAITS) -> None:
        """Opens the file system of the URL without a request. Raises RequestError, MissingExtra."""
        self.title = hidden(url)
        self._waits = waits
        try:
            import fsspec
        except ImportError:
            raise MissingExtra("fsspec", "cluster") from None
        try:
            self._files, self._root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingExtra(error.name or "the driver of this storage", "cluster") from None
        except ValueError as error:
            limit, remedy = f"cannot be opened: {error}", "name a directory or a URL such as s3://BUCKET/PATH"
            raise RequestError("artifacts", self.title, limit, remedy) from None
        scheme = self._files.protocol if isinstance(self._files.protocol, str) else self._files.protocol[0]
        self._atomic = scheme in _ATOMIC

    def put(self, path: Path, name: str, known: Manifest | None = None) -> Manifest:
        """Stores a file. Parts of an interrupted upload, or of the `known` earlier file, are not sent again. Raises
        OSError if the file cannot be read.
        """
        with open(path, "rb") as file:
            manifest = _manifest(file)
            stored = set() if known is None else {digest for digest, _ in known.parts}
            for position, (digest, size) in _positions(manifest):
                if digest not in stored and not self._has(f"{name}/{digest}", size):
                    file.seek(position)
                    self._write(f"{name}/{digest}", file.read(size))
                stored.add(digest)
        self._write(f"{name}/{_MANIFEST}", manifest.to_json())
        if known is not None:
            for digest in {digest for digest, _ in known.parts} - {digest for digest, _ in manifest.parts}:
                self._delete(f"{name}/{digest}")
        return manifest

    def put_bytes(self, data: bytes, name: str) -> Manifest:
        """Stores a small file of at most `INLINE` bytes in one request."""
        manifest = Manifest(len(data), hashlib.sha256(data).hexdigest(), (), data, time.time())
        self._write(f"{name}/{_MANIFEST}", manifest.to_json())
        return manifest

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of a file; None if there is no such file."""
        try:
            text = self._retried(lambda: self._files.cat_file(self._path(f"{name}/{_MANIFEST}"), end=_MAX_MANIFEST))
            return Manifest.from_json(text)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{self.title}/{name}", str(error), "delete it, or restore a backup") from None

    def part(self, name: str, digest: str, size: int) -> bytes:
        """The bytes of a part, checked. Raises FileNotFoundError if the file was replaced or deleted meanwhile."""
        data: bytes = self._retried(lambda: self._files.cat_file(self._path(f"{name}/{digest}")))
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"{self.title}/{name}/{digest}", "is damaged", "restore a backup, or make the film again")
        return data

    def fetch(self, name: str, path: Path) -> Manifest | None:
        """Writes a file to `path`, atomically; None if there is no such file. Raises OSError."""
        while (manifest := self.manifest(name)) is not None:
            found = manifest

            def write(draft: Path, found: Manifest = found) -> None:
                with open(draft, "wb") as file:
                    for piece in self._pieces(name, found):
                        file.write(piece)

            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                replace_whole(path, write)
                return found
            except FileNotFoundError:
                if self.manifest(name) == found:
                    missing = "has a manifest, but one of its parts is missing"
                    raise StoreError(f"{self.title}/{name}", missing, "restore a backup, or retry the job") from None
        return None

    def open(self, name: str) -> tuple[io.RawIOBase, Manifest] | None:
        """Opens a file for reading at any position; parts are fetched when they are read."""
        manifest = self.manifest(name)
        return None if manifest is None else (_Remote(self, name, manifest), manifest)

    def names(self, prefix: str) -> list[str]:
        """The names of all files below a directory, sorted. Names that would leave the directory are left out."""
        place = self._path(prefix)
        try:
            found = self._retried(lambda: self._files.find(place))
        except FileNotFoundError:
            return []
        start = len(self._root.rstrip("/")) + 1
        names = (each[start:].removesuffix(f"/{_MANIFEST}") for each in found if each.endswith(f"/{_MANIFEST}"))
        return sorted(name for name in names if not {"", ".", ".."} & set(re.split(r"[/\\]", name)))

    def remove(self, name: str) -> None:
        """Deletes a file, or all files below a directory; nothing happens if there are none."""
        with suppress(FileNotFoundError):
            self._retried(lambda: self._files.rm(self._path(name), recursive=True))

    def check(self) -> None:
        """Writes, reads and deletes a small file. Raises StoreError if one of them fails."""
        name = f".check/{secrets.token_hex(8)}"
        self.put_bytes(b"x", name)
        if self.manifest(name) is None:
            raise StoreError(self.title, "does not return what was written", "check the storage")
        self.remove(name)

    def _pieces(self, name: str, manifest: Manifest) -> Iterator[bytes]:
        if manifest.data is not None:
            yield manifest.data
            return
        for digest, size in manifest.parts:
            yield self.part(name, digest, size)

    def _has(self, name: str, size: int) -> bool:
        try:
            return bool(self._retried(lambda: self._files.info(self._path(name)))["size"] == size)
        except FileNotFoundError:
            return False

    def _write(self, name: str, data: bytes) -> None:
        place = self._path(name)
        if self._atomic:
            self._retried(lambda: self._files.pipe_file(place, data), reads=False)
            return

        def written() -> None:
            draft = f"{place}.{secrets.token_hex(4)}.tmp"
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(draft, data)
            self._files.mv(draft, place)

        self._retried(written, reads=False)

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._retried(lambda: self._files.rm_file(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _retried(self, request: Callable[[], T], reads: bool = True) -> T:
        """Sends a request, and again after each of the waits unless the storage refuses it. Raises StoreError at the
        end, and FileNotFoundError if it `reads` a file that does not exist.
        """
        for wait in (*self._waits, None):
            try:
                return request()
            except Exception as error:  # each storage has exceptions of its own
                if reads and isinstance(error, (FileNotFoundError, NotADirectoryError)):
                    raise FileNotFoundError from None
                if wait is None or isinstance(error, (PermissionError, NotADirectoryError)):
                    reason, remedy = f"{type(error).__name__}: {error}", "check its address, credentials and network"
                    raise StoreError(self.title, reason, remedy) from error
                logger.warning("%s does not respond, trying again: %s", self.title, error)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


class _Remote(io.RawIOBase):
    """A stored file that is read part by part. It keeps the last part."""

    def __init__(self, files: RemoteFiles, name: str, manifest: Manifest) -> None:
        self._files, self._name, self._manifest = files, name, manifest
        self._position, self._start, self._held = 0, 0, manifest.data or b""

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the position, in bytes from the start, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._manifest.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes, and at most to the end of a part unless `size` is negative."""
        if size < 0:
            found = []
            while piece := self.read(PART):
                found.append(piece)
            return b"".join(found)
        if self._position >= self._manifest.size:
            return b""
        if not self._start <= self._position < self._start + len(self._held):
            at, (digest, length) = next(
                (at, part) for at, part in _positions(self._manifest) if self._position < at + part[1]
            )
            self._start, self._held = at, self._files.part(self._name, digest, length)
        begin = self._position - self._start
        piece = self._held[begin : begin + size]
        self._position += len(piece)
        return piece


def _manifest(file: Any) -> Manifest:
    """The manifest of an open file."""
    modified = os.fstat(file.fileno()).st_mtime
    whole, parts = hashlib.sha256(), list[tuple[str, int]]()
    while data := file.read(PART):
        if not parts and len(data) <= INLINE:
            return Manifest(len(data), hashlib.sha256(data).hexdigest(), (), data, modified)
        whole.update(data)
        parts.append((hashlib.sha256(data).hexdigest(), len(data)))
    if not parts:
        return Manifest(0, whole.hexdigest(), (), b"", modified)
    return Manifest(sum(size for _, size in parts), whole.hexdigest(), tuple(parts), None, modified)


def _positions(manifest: Manifest) -> Iterator[tuple[int, tuple[str, int]]]:
    """Each part of a file with the position of its first byte."""
    at = 0
    for part in manifest.parts:
        yield at, part
        at += part[1]
