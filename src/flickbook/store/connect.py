"""Selects a store by its URL."""

from __future__ import annotations

import importlib
from pathlib import Path

from flickbook import settings
from flickbook.errors import MissingExtra, RequestError
from flickbook.store.base import Store


def connect(url: str | None = None) -> Store:
    """Creates the store for a URL without opening it. The default is the URL in the settings, or a file in the data
    directory.

    Raises RequestError for an invalid URL, MissingExtra if the driver is not installed.
    """
    chosen = settings.load()
    url = url or chosen.store
    if not url:
        return _sqlite(chosen.data_dir / "flickbook.db")
    scheme, _, rest = url.partition("://")
    if scheme in ("mongodb", "mongodb+srv") and rest:
        return _mongo(url)
    if scheme != "sqlite" or not rest:
        raise RequestError("store", hidden(url), "is not a store address", "name sqlite:///PATH or mongodb://HOST/NAME")
    if not rest.startswith("/") or rest in ("/", "/:memory:"):
        raise RequestError(
            "store", hidden(url), "is not a path", "write sqlite:///PATH, or sqlite:////PATH from the root"
        )
    return _sqlite(Path(rest[1:]).expanduser())


def is_local(url: str) -> bool:
    """Whether a store is a file, which only one machine can use. "" is the default store."""
    return not url or url.startswith("sqlite:")


def hidden(url: str) -> str:
    """The URL without parts that may be secret: credentials and options."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    place = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}{mark}{'…@' if '@' in rest else ''}{place}"


def _sqlite(path: Path) -> Store:
    from flickbook.store.sqlite.store import SqliteStore

    return SqliteStore(path)


def _mongo(url: str) -> Store:
    try:
        found = importlib.import_module("flickbook.store.mongo.store")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pymongo", "bson", "dns"):
            raise
        raise MissingExtra("pymongo", "mongo") from None
    store: Store = found.MongoStore(url)
    return store
