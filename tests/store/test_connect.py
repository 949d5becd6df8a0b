"""Addresses of stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import FlickbookError, MissingExtra, RequestError
from flickbook.store.connect import connect, hidden
from flickbook.store.sqlite.store import SqliteStore


def place(url: str | None = None) -> Path:
    store = connect(url)
    assert isinstance(store, SqliteStore)
    return store.path


def test_the_default_store_is_a_file_in_the_data_directory(data: Path) -> None:
    assert place() == place("") == data / "flickbook.db"
    assert not data.exists()  # it is made when it is opened


def test_the_store_address_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    monkeypatch.setenv("FLICKBOOK_STORE", "sqlite:///films.db")
    assert place() == work / "films.db"
    assert place("sqlite:///other.db") == work / "other.db"


def test_three_slashes_are_relative_and_four_absolute(work: Path, tmp_path: Path) -> None:
    assert place("sqlite:///a b/x.db") == work / "a b" / "x.db"
    assert place(f"sqlite:///{tmp_path}/x.db") == tmp_path / "x.db"
    assert place("sqlite:///~/x.db") == Path.home() / "x.db"


@pytest.mark.parametrize(
    "url",
    [
        "flickbook.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/x.db",
        "sqlite:///:memory:",
        "postgres://localhost/films",
        "mongodb://",
        "SQLITE:///x.db",
        "file:///x.db",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        connect(url)
    assert caught.value.field == "store" and "sqlite:///PATH" in str(caught.value)


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://user:{SECRET}@host/films",
        f"postgres://user:{SECRET}@x@host/films",
        f"postgres://user:a/{SECRET}@host/films",
        f"postgres://host/films?password={SECRET}",
        f"user:{SECRET}@host",
        f"sqlite://user:{SECRET}@host/x",
        f"mysql:user:{SECRET}@host",
    ],
)
def test_errors_show_no_password(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        connect(url)
    assert SECRET not in str(caught.value) and SECRET not in repr(caught.value)


@given(st.text(max_size=60))
def test_any_address_is_a_store_or_refused(text: str) -> None:
    try:
        connect(f"x{text}")
    except FlickbookError as error:
        assert "\n" not in str(error)


@given(st.text("ab:/?@%", max_size=12), st.text("ab:/?@%#", max_size=12))
def test_text_before_an_at_sign_is_hidden(user: str, rest: str) -> None:
    assert SECRET not in hidden(f"mongodb://{user}{SECRET}@{rest}")


def test_mongodb_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("pymongo", "bson", "flickbook.store.mongo.store"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(MissingExtra) as caught:
        connect(f"mongodb://user:{SECRET}@localhost/films")
    assert caught.value.extra == "mongo" and SECRET not in str(caught.value)


def test_connecting_does_not_contact_mongodb() -> None:
    pytest.importorskip("pymongo")
    for scheme in ("mongodb", "mongodb+srv"):
        store = connect(f"{scheme}://user:{SECRET}@nowhere.invalid/films")
        assert type(store).__name__ == "MongoStore" and SECRET not in store.title
