"""SHA-256 hashes of model files: computing, caching, and checking against `manifest.json`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any, Self

from flickbook.errors import WeightsError
from flickbook.files import replace_whole, sha256

MAX_CONFIG_BYTES = 1 << 20
#: A file modified within this time before it was hashed may change again without a new time stamp.
_SETTLED_NS = 2_000_000_000
_FETCH = "download the model again"


def read_config(path: str | Path, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Reads a JSON object of at most `limit` bytes. Raises WeightsError if it is missing, larger or no JSON object."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise WeightsError(path, error.strerror or "cannot be read", _FETCH) from error
    if len(data) > limit:
        raise WeightsError(path, f"larger than {limit} bytes, the limit of a configuration", _FETCH)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WeightsError(path, f"not JSON ({error})", _FETCH) from error
    if not isinstance(values, dict):
        raise WeightsError(path, "not a JSON object", _FETCH)
    return values


class HashCache:
    """SHA-256 of files, cached in a JSON file while a file's size and modification time (ns) are unchanged.

    With `path=None` nothing is cached. A cache that cannot be read or written only costs time.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None

    @classmethod
    def usual(cls) -> Self:
        """The cache in this machine's cache directory."""
        from flickbook import settings  # not needed where models are only trained

        return cls(settings.load().cache_dir / "hashes.json")

    def _read(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            return read_config(self.path, limit=16 << 20)
        except WeightsError:
            return {}

    def sha256(self, path: str | Path) -> str:
        """Hexadecimal SHA-256 of a file. Raises WeightsError if it cannot be read."""
        path = Path(path).absolute()
        try:
            before = path.stat()
            stamp = [before.st_size, before.st_mtime_ns]
            known = self._read().get(str(path))
            if isinstance(known, list) and len(known) == 3 and known[:2] == stamp:
                return str(known[2])
            digest = sha256(path)
            after = path.stat()
        except OSError as error:
            raise WeightsError(path, error.strerror or "cannot be read", _FETCH) from error
        settled = time.time_ns() - before.st_mtime_ns > _SETTLED_NS
        if settled and stamp == [after.st_size, after.st_mtime_ns]:
            self._remember(str(path), [*stamp, digest])
        return digest

    def _remember(self, name: str, entry: list[Any]) -> None:
        if self.path is None:
            return
        text = json.dumps({**self._read(), name: entry}, indent=1, sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_whole(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        except OSError:
            return


def verify(directory: str | Path, cache: HashCache | None = None) -> dict[str, str]:
    """Checks every file in `manifest.json` ({relative path: SHA-256}) and returns the manifest.

    Raises WeightsError with both hashes for the first file that differs, for a missing file, or for a path outside
    the directory.
    """
    directory, cache = Path(directory), cache or HashCache()
    manifest = read_config(directory / "manifest.json")
    for name, expected in manifest.items():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or not isinstance(expected, str):
            raise WeightsError(directory / "manifest.json", f"bad entry {name!r}", _FETCH)
        found = cache.sha256(directory / place)
        if found != expected.lower():
            raise WeightsError(directory / place, f"corrupt: SHA-256 should be {expected}, is {found}", _FETCH)
    return {name: str(expected).lower() for name, expected in manifest.items()}


def fingerprint(directory: str | Path, cache: HashCache | None = None) -> dict[str, str]:
    """{relative path: SHA-256} of a model's weights, checked against manifest.json or the hub's hashes.

    Raises WeightsError for a file that differs, and for a directory without safetensors.
    """
    directory, cache = Path(directory), cache or HashCache()
    known = verify(directory, cache) if (directory / "manifest.json").exists() else {}
    for path in sorted(each for each in directory.glob("**/*.safetensors") if each.is_file()):
        name = path.relative_to(directory).as_posix()
        if name in known:
            continue
        known[name] = cache.sha256(path)
        # In the hub's cache a large file is named by the hash that its repository lists.
        listed = path.resolve().name if path.is_symlink() else ""
        if re.fullmatch("[0-9a-f]{64}", listed) and listed != known[name]:
            raise WeightsError(path, f"corrupt: SHA-256 should be {listed}, is {known[name]}", _FETCH)
    if not known:
        raise WeightsError(directory, "holds no safetensors", _FETCH)
    return known


def write_manifest(directory: str | Path) -> dict[str, str]:
    """Hashes the safetensors of `directory`, writes `manifest.json`, and returns it."""
    directory = Path(directory)
    files = sorted(path for path in directory.glob("**/*.safetensors") if path.is_file())
    manifest = {path.relative_to(directory).as_posix(): sha256(path) for path in files}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    replace_whole(directory / "manifest.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return manifest
