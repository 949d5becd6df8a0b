"""Backups, damage that is seen, and repair that loses nothing that is still there."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.blocking import Blocking
from tests.store.examples import hasty, job

from flickbook.errors import StoreError
from flickbook.store.base import Job, Note, Query
from flickbook.store.sqlite.backup import age, backup_of
from flickbook.store.sqlite.repair import repair
from flickbook.store.sqlite.store import SqliteStore

PAGE = 4096
OWNERS = ("a", "b", "c")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flickbook.db"


def opened(path: Path, **keywords: Any) -> Blocking:
    return Blocking(SqliteStore(path, connect=hasty, **keywords))


def filled(path: Path, count: int = 40) -> tuple[dict[str, Job], dict[str, Note]]:
    """A store with jobs of many states and sizes, and notes; all that was acknowledged."""
    with opened(path) as store:
        store.add([job(owner=OWNERS[i % 3], key=f"k{i}", error="x" * (i % 7) * 900) for i in range(count)])
        for i in range(count // 4):
            found = store.claim("one", 60.0)
            assert found is not None
            if i % 2:
                store.settle(found.id, 1, {"state": "completed", "seconds": 1.5})
        for i in range(count // 2):
            store.put(Note(kind="key", id=f"n{i}", owner=OWNERS[i % 3], body="[" + "1," * 50 + "1]"))
        return all_of(store)


def all_of(store: Blocking) -> tuple[dict[str, Job], dict[str, Note]]:
    jobs = store.find(Query(limit=100_000))
    return {each.id: each for each in jobs}, {each.id: each for each in store.notes("key")}


def test_a_backup_holds_the_whole_store(path: Path, tmp_path: Path) -> None:
    before = filled(path)
    store = SqliteStore(path)
    with Blocking(store) as blocking:
        blocking.ask(store.backup(tmp_path / "copy.db"))
        blocking.add([job()])
    with opened(tmp_path / "copy.db") as copy:
        assert all_of(copy) == before and copy.check() == []
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []


def test_a_store_backs_itself_up_once_a_day(path: Path) -> None:
    filled(path)
    first = backup_of(path).stat()
    with opened(path):
        assert backup_of(path).stat().st_ino == first.st_ino
    os.utime(backup_of(path), (first.st_mtime - 90_000, first.st_mtime - 90_000))
    with opened(path) as store:
        assert backup_of(path).stat().st_ino != first.st_ino
        everything = all_of(store)
    with opened(backup_of(path)) as copy:
        assert all_of(copy) == everything
    assert age(path, 0.0) == float("inf")  # from the future: the clock was wrong once


def test_a_damaged_store_does_not_replace_its_backup(path: Path) -> None:
    filled(path)
    with opened(path):
        pass
    kept = backup_of(path).read_bytes()
    os.utime(backup_of(path), (1.0, 1.0))
    db = sqlite3.connect(path)
    db.execute("UPDATE jobs SET attempt = attempt + 1 WHERE seq = 7")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="run `flickbook repair`"):
        opened(path).open()
    assert backup_of(path).read_bytes() == kept


def test_repair_leaves_a_sound_store_unchanged(path: Path) -> None:
    filled(path)
    before = path.read_bytes()
    assert repair(path).quarantined is None
    assert path.read_bytes() == before


def flip(path: Path, chance: random.Random) -> str:
    """Damage a closed database as disks and power cuts do; what was done."""
    data = bytearray(path.read_bytes())
    pages = len(data) // PAGE
    kind = chance.choice(("bit", "bytes", "zeros", "noise", "torn", "old page", "cut"))
    page = chance.randrange(pages) * PAGE
    if kind == "bit":
        data[page + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
    elif kind == "bytes":
        for _ in range(8):
            data[page + chance.randrange(PAGE)] = chance.randrange(256)
    elif kind == "zeros":
        data[page : page + PAGE] = bytes(PAGE)
    elif kind == "noise":
        data[page : page + PAGE] = chance.randbytes(PAGE)
    elif kind == "torn":  # 512-byte sectors of another page
        other = chance.randrange(pages) * PAGE
        at = chance.randrange(1, 8) * 512
        data[page + at : page + PAGE] = data[other + at : other + PAGE]
    elif kind == "old page":
        other = chance.randrange(pages) * PAGE
        data[page : page + PAGE] = data[other : other + PAGE]
    else:
        del data[page + chance.randrange(PAGE) :]
    path.write_bytes(data)
    return f"{kind} at page {page // PAGE + 1} of {pages}"


def seen(path: Path, before: tuple[dict[str, Job], dict[str, Note]]) -> bool:
    """Whether the damage was told; if it was not, everything must be there and equal."""
    try:
        with opened(path, patience=1.0) as store:
            if store.check():
                return True
            assert all_of(store) == before
            for id, each in before[0].items():
                assert store.get(id) == each
            counts = {owner: sum(store.counts(owner).values()) for owner in OWNERS}
            assert sum(counts.values()) == len(before[0])
    except StoreError as error:
        assert "repair" in str(error) or "name another file" in str(error), str(error)
        return True
    return False


@pytest.mark.parametrize("trials", [24, pytest.param(500, marks=pytest.mark.trial)])
@pytest.mark.slow
def test_all_damage_is_detected_and_repair_restores_readable_rows(tmp_path: Path, trials: int) -> None:
    source = tmp_path / "source" / "flickbook.db"
    source.parent.mkdir()
    before = filled(source)
    chance = random.Random(trials)
    detected = 0
    for trial in range(trials):
        path = tmp_path / "trial" / "flickbook.db"
        shutil.copytree(source.parent, path.parent)
        shutil.copy(path, backup_of(path))  # made after the last change, so that nothing may be lost
        what = flip(path, chance)
        detected += seen(path, before)
        damaged = path.read_bytes()
        try:
            done = repair(path)
            with opened(path) as store:
                jobs, notes = all_of(store)
                assert store.check() == []
                assert store.protected(), "there are keys, and requests need one"
                assert len(store.add([job(owner="a", key=f"new{i}") for i in range(3)])) == 3
        except BaseException as error:
            error.add_note(f"trial {trial}: {what}")
            raise
        assert set(jobs) == set(before[0]) and notes == before[1], what
        for id, each in before[0].items():
            # Of an older source the token is one that was never given out.
            assert jobs[id] == each or jobs[id] == each.model_copy(update={"attempt": each.attempt + 1000}), what
        if done.quarantined is not None:
            assert done.quarantined.read_bytes() == damaged, what
        shutil.rmtree(path.parent)
    assert detected > trials // 2


def test_repair_without_a_backup_keeps_readable_rows(path: Path) -> None:
    before = filled(path)
    backup_of(path).unlink()
    chance = random.Random(5)
    data = bytearray(path.read_bytes())
    for page in chance.sample(range(20, len(data) // PAGE), 3):
        data[page * PAGE : page * PAGE + PAGE] = chance.randbytes(PAGE)
    path.write_bytes(data)
    done = repair(path)
    with opened(path) as store:
        jobs, notes = all_of(store)
        assert store.check() == []
    assert done.quarantined is not None and done.restored == dict.fromkeys(done.restored, 0)
    assert len(jobs) == done.salvaged["jobs"] + done.scattered["jobs"] >= len(before[0]) - 8
    assert all(jobs[id].plan == before[0][id].plan for id in jobs) and set(notes) <= set(before[1])


@pytest.mark.parametrize("first", [1, 4, 5])
def test_a_lost_root_page_loses_no_rows(path: Path, first: int) -> None:
    """Page 1 says where everything is, page 4 where the jobs are: the rows themselves are elsewhere."""
    before = filled(path)
    backup_of(path).unlink()
    data = bytearray(path.read_bytes())
    data[(first - 1) * PAGE : first * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    done = repair(path)
    with opened(path) as store:
        jobs, notes = all_of(store)
    assert set(jobs) == set(before[0]) and notes == before[1]
    assert done.salvaged["jobs"] + done.scattered["jobs"] == len(before[0])


def test_removed_jobs_are_not_restored_from_the_backup(path: Path) -> None:
    before = filled(path)
    with opened(path):
        pass
    shutil.copy(path, backup_of(path))
    gone = next(id for id, each in before[0].items() if each.state == "queued")
    with opened(path) as store:
        store.remove(gone, ("queued",))
        store.drop("key", "n3")
    db = sqlite3.connect(path)
    db.execute("UPDATE marks SET number = number + 1 WHERE name = 'position'")
    db.commit()
    db.close()
    repair(path)
    with opened(path) as store:
        jobs, notes = all_of(store)
        assert gone not in jobs and "n3" not in notes and len(jobs) == len(before[0]) - 1
        store.add([job(owner="d")])


def test_a_fencing_token_from_before_the_repair_is_stale(path: Path) -> None:
    with opened(path) as store:
        added = store.add([job()])[0]
        shutil.copy(path, backup_of(path))
        found = store.claim("one", 60.0)
        assert found is not None and found.attempt == 1
        path.write_bytes(b"")
        done = repair(path)
        assert done.restored["jobs"] == 1
        again = store.claim("two", 60.0)
        assert again is not None and again.id == added.id
        assert store.settle(added.id, 1, {"state": "completed"}) is None
        assert store.settle(added.id, again.attempt, {"state": "completed"}) is not None


def test_an_empty_file_is_replaced_by_the_backup(path: Path) -> None:
    before = filled(path)
    shutil.copy(path, backup_of(path))
    path.write_bytes(b"")
    done = repair(path)
    assert done.quarantined is not None and done.restored["jobs"] == len(before[0])
    with opened(path) as store:
        assert set(all_of(store)[0]) == set(before[0])


def test_a_missing_file_is_restored_from_the_backup(path: Path) -> None:
    before = filled(path)
    shutil.copy(path, backup_of(path))
    path.unlink()
    assert repair(path).quarantined is None
    with opened(path) as store:
        assert set(all_of(store)[0]) == set(before[0])


def test_repair_leaves_foreign_files_alone(path: Path, tmp_path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE letters (text)")
    db.commit()
    db.close()
    text = tmp_path / "text.db"
    text.write_text("my notes\n" * 2000)
    before = path.read_bytes(), text.read_bytes()
    for each in (path, text, tmp_path / "nothing.db"):
        with pytest.raises(StoreError):
            repair(each)
    assert (path.read_bytes(), text.read_bytes()) == before
    assert not list(tmp_path.glob("*damaged*")) and not (tmp_path / "nothing.db").exists()


def test_an_open_store_continues_after_a_repair(path: Path) -> None:
    with opened(path) as store:
        kept = store.add([job() for _ in range(3)])
        db = sqlite3.connect(path)
        db.execute("UPDATE jobs SET error='x' WHERE id=?", (kept[1].id,))
        db.commit()
        db.close()
        assert repair(path).quarantined is not None
        assert {each.id for each in store.find(Query())} >= {kept[0].id, kept[2].id}
        added = store.add([job()])[0]
    with opened(path) as store:
        assert store.get(added.id) == added


@pytest.mark.parametrize("broken", [b"se\xffl", b"sea!"])
def test_a_damaged_schema_is_reported_plainly(path: Path, broken: bytes) -> None:
    with Blocking(SqliteStore(path)) as store:
        store.add([job()])
    path.write_bytes(path.read_bytes().replace(b"seal TEXT", broken + b" TEXT"))
    with pytest.raises(StoreError) as caught, Blocking(SqliteStore(path)) as store:
        store.find(Query())
    text = str(caught.value)
    assert "is damaged" in text and "run `flickbook repair`" in text and "codec" not in text and "byte" not in text
