"""The stores that every backend's tests run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.blocking import Blocking
from tests.store.examples import Another, Backend


@contextmanager
def sqlite(place: Path) -> Iterator[Another]:
    from flickbook.store.sqlite.store import SqliteStore

    yield lambda: SqliteStore(place / "flickbook.db")


@contextmanager
def mongo(place: Path) -> Iterator[Another]:
    """On nx-27017, which speaks MongoDB's wire protocol and is none."""
    from tests.store.mongo_server import database, shared

    from flickbook.store.mongo.store import MongoStore

    with database(shared().url()) as url:
        yield lambda: MongoStore(url)


@contextmanager
def true_mongo(place: Path) -> Iterator[Another]:
    from tests.store.mongo_server import database

    from flickbook.store.mongo.store import MongoStore

    if "TEST_MONGODB_URL" not in os.environ:
        pytest.skip("TEST_MONGODB_URL names no true MongoDB")
    with database(os.environ["TEST_MONGODB_URL"]) as url:
        yield lambda: MongoStore(url)


#: Each gives an empty store in a directory of its own, for as long as it is entered.
BACKENDS: dict[str, Backend] = {
    "sqlite": sqlite,
    "mongo": mongo,
    "true mongo": true_mongo,
}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Makes empty stores."""
    return BACKENDS[request.param]


@pytest.fixture
def another(backend: Backend, tmp_path: Path) -> Iterator[Another]:
    """Further faces of the store that `store` is open on."""
    with backend(tmp_path) as another:
        yield another


@pytest.fixture
def store(another: Another) -> Iterator[Blocking]:
    """An open, empty store."""
    with Blocking(another()) as store:
        yield store
