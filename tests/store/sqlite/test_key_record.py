"""Keys that are lost never open the service: what was made is recorded apart from the keys, and repair names it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import StoreError
from flickbook.jobs.api_keys import Key, Keys
from flickbook.store.base import SESSION, Note
from flickbook.store.sqlite import key_record
from flickbook.store.sqlite.backup import backup_of
from flickbook.store.sqlite.repair import repair
from flickbook.store.sqlite.store import SqliteStore

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flickbook.db"


def opened(path: Path, **keywords: Any) -> Blocking:
    return Blocking(SqliteStore(path, connect=hasty, **keywords))


def made(path: Path, count: int) -> list[Key]:
    """A store with some jobs and so many keys, whose only backup is from before the first key."""
    with opened(path) as store:
        store.add([job(owner="ada") for _ in range(5)])
        keys = Keys(store.store)
        found = [store.ask(keys.create(f"key-{number}"))[0] for number in range(count)]
    assert backup_of(path).exists()
    return found


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def older(path: Path) -> None:
    """Make of a store what the release before would have left: keys, and no record of them."""
    change(path, "DELETE FROM marks WHERE name LIKE 'keys%'")
    key_record.file_of(path).unlink()


def flipped(path: Path) -> None:
    """One byte of the first key's note."""
    data = path.read_bytes()
    assert data.count(b'"key-0"') >= 1
    path.write_bytes(data.replace(b'"key-0"', b'"kez-0"'))


def renamed(path: Path, id: bytes, where: str) -> None:
    """One byte of a key's id, in the table of notes or in its index."""
    db = sqlite3.connect(path)
    (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name=?", (where,)).fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    data[data.index(b"key" + id, (root - 1) * PAGE, root * PAGE) + 3] ^= 1
    path.write_bytes(data)


def zeroed(path: Path) -> None:
    """The pages on which notes and their index lie."""
    db = sqlite3.connect(path)
    roots = [row[0] for row in db.execute("SELECT rootpage FROM sqlite_schema WHERE tbl_name='notes' AND rootpage > 0")]
    db.close()
    data = bytearray(path.read_bytes())
    for page in range(len(data) // PAGE):
        if page + 1 in roots or b'"scopes"' in data[page * PAGE : (page + 1) * PAGE]:
            data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize(("damage", "lost"), [(flipped, 1), (zeroed, 10), (emptied, 10), (gone, 10)])
def test_lost_keys_are_named_and_the_store_stays_closed(
    path: Path, count: int, damage: Callable[[Path], None], lost: int
) -> None:
    keys = made(path, count)
    damage(path)
    done = repair(path)
    expected = {key.id: key.name for key in keys[:lost]}
    assert done.lost_keys == expected and done.closed
    with opened(path) as store:
        assert store.check() == [] and store.protected()
        assert {note.id for note in store.notes("key")} == {key.id for key in keys} - set(expected)
        assert store.ask(Keys(store.store).exist())
    # What is lost is reported once.
    change(path, "UPDATE marks SET number = 2.0 WHERE name = 'keys'")
    again = repair(path)
    assert again.lost_keys == {} and again.closed


@pytest.mark.parametrize(("damage", "lost"), [(flipped, 1), (zeroed, 0), (emptied, 0)])
def test_repair_closes_a_store_of_the_last_release(path: Path, damage: Callable[[Path], None], lost: int) -> None:
    """It has no record: what its pages still say is reported, and where they say nothing it is closed as well."""
    keys = made(path, 3)
    older(path)
    damage(path)
    done = repair(path)
    assert [*done.lost_keys] == [key.id for key in keys[:lost]] and done.closed
    with opened(path) as store:
        assert store.protected()


@pytest.mark.parametrize("part", ["name", "id", "id in the index"])
def test_opening_a_damaged_store_keeps_the_record_as_it_was(path: Path, part: str) -> None:
    """What a damaged note or index says of a key never replaces what the record says."""
    keys = made(path, 2)
    before = key_record.read(path)
    if part == "name":
        flipped(path)
    else:
        renamed(path, keys[0].id.encode(), "sqlite_autoindex_notes_1" if part == "id in the index" else "notes")
    with opened(path) as store:
        assert store.check() != []
    assert key_record.read(path) == before
    expected = {} if part == "id in the index" else {keys[0].id: "key-0"}
    assert repair(path).lost_keys == expected
    with opened(path) as store:
        assert {note.id for note in store.notes("key")} == {key.id for key in keys} - expected.keys()


def test_opening_a_store_of_the_last_release_creates_its_key_record(path: Path) -> None:
    keys = made(path, 2)
    older(path)
    with opened(path) as store:
        assert store.protected()
    names = {key.id: key.name for key in keys}
    assert {id: entry.name for id, entry in key_record.read(path).items()} == names
    zeroed(path)
    assert repair(path).lost_keys == names


@pytest.mark.parametrize("part", ["marks", "file", "a damaged file"])
def test_each_part_of_the_record_restores_the_other(path: Path, part: str) -> None:
    (key,) = made(path, 1)
    if part == "marks":
        change(path, "DELETE FROM marks WHERE name LIKE 'keys%'")
    elif part == "file":
        key_record.file_of(path).unlink()
    else:
        key_record.file_of(path).write_bytes(b"\xff\x00 not\nours x y z\n")
    change(path, "DELETE FROM notes")
    with opened(path) as store:
        assert store.protected()
    change(path, "DELETE FROM marks WHERE name LIKE 'keys%'")
    assert key_record.read(path) == {key.id: key_record.Entry("key-0")}
    assert os.stat(key_record.file_of(path)).st_mode & 0o077 == 0


def test_a_key_that_was_revoked_after_the_backup_is_not_restored_as_live(path: Path) -> None:
    with opened(path) as store:
        keys = Keys(store.store)
        key, token = store.ask(keys.create("laptop"))
        shutil.copy(path, backup_of(path))
        revoked = store.ask(keys.revoke(key.id))
        emptied(path)
        done = repair(path)
        assert done.lost_keys == {} and done.restored["notes"] == 1
        found = store.ask(Keys(store.store).find(token))
        assert found is not None and (found.state, found.revoked_at) == ("revoked", revoked.revoked_at)
        assert store.check() == []


def test_an_ended_session_is_not_restored_from_the_backup(path: Path) -> None:
    with opened(path) as store:
        store.put(Note(kind=SESSION, id="s", due=1.0, body=json.dumps({})))
        shutil.copy(path, backup_of(path))
        store.drop(SESSION, "s")
        emptied(path)
        repair(path)
        assert store.notes(SESSION) == []


def test_a_store_without_keys_stays_open_through_a_repair(path: Path) -> None:
    with opened(path) as store:
        store.add([job() for _ in range(3)])
    change(path, "UPDATE jobs SET attempt = attempt + 1 WHERE seq = 2")
    assert not repair(path).closed
    with opened(path) as store:
        assert not store.protected()
    assert not key_record.file_of(path).exists()


def test_a_key_is_recorded_before_it_is_created(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the record cannot be written there is no key either: a key without one could be lost unseen."""
    with opened(path) as store:
        key_record.file_of(path).mkdir()
        with pytest.raises(StoreError):
            store.ask(Keys(store.store).create("laptop"))
        assert store.notes("key") == []
