"""Files in shared storage: they come back whole, an interrupted upload continues, and damage is noticed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from flickbook.errors import RequestError, StoreError
from flickbook.jobs.shared import remote
from flickbook.jobs.shared.remote import RemoteFiles

PART = 64 << 10


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART", PART)


def written(path: Path, size: int, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("size", [0, 5, 3 * PART + 17])
def test_a_stored_file_comes_back(storage: str, tmp_path: Path, size: int) -> None:
    data = written(tmp_path / "film", size)
    assert RemoteFiles(storage).put(tmp_path / "film", "jobs/a/film.mp4").size == size
    other = RemoteFiles(storage)  # as another machine
    assert other.names("jobs") == ["jobs/a/film.mp4"]
    found = other.fetch("jobs/a/film.mp4", tmp_path / "there" / "film")
    assert found is not None and (tmp_path / "there" / "film").read_bytes() == data
    assert other.fetch("jobs/a/other.mp4", tmp_path / "other") is None
    other.remove("jobs/a")
    assert other.names("jobs") == [] and other.manifest("jobs/a/film.mp4") is None


def test_a_part_is_read_without_the_rest(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(tmp_path / "film", 4 * PART)
    files = RemoteFiles(storage)
    files.put(tmp_path / "film", "film")
    fetched: list[str] = []
    part = files.part
    monkeypatch.setattr(files, "part", lambda *each: fetched.append(each[1]) or part(*each))
    opened = files.open("film")
    assert opened is not None
    file, manifest = opened
    file.seek(PART + 10)
    assert file.read(100) == data[PART + 10 : PART + 110]
    assert fetched == [manifest.parts[1][0]]
    file.seek(0)
    assert file.read() == data


def test_an_interrupted_upload_sends_only_what_is_missing(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "film", 4 * PART)
    files, sent = RemoteFiles(storage, waits=()), []
    write = files._write

    def failing(name: str, data: bytes) -> None:
        if len(sent) == 2:
            raise StoreError("storage", "the connection was lost", "try again")
        sent.append(name)
        write(name, data)

    monkeypatch.setattr(files, "_write", failing)
    with pytest.raises(StoreError):
        files.put(tmp_path / "film", "film")
    again, more = RemoteFiles(storage), []
    assert again.manifest("film") is None  # nothing half-written is visible
    write_again = again._write
    monkeypatch.setattr(again, "_write", lambda name, data: more.append(name) or write_again(name, data))
    again.put(tmp_path / "film", "film")
    assert len(more) == 3 and not set(more) & set(sent)  # two parts and the manifest
    again.fetch("film", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_replaced_file_leaves_no_part_behind(storage: str, tmp_path: Path) -> None:
    files = RemoteFiles(storage)
    written(tmp_path / "state", 2 * PART, 1)
    first = files.put(tmp_path / "state", "state")
    data = written(tmp_path / "state", 2 * PART, 2)
    files.put(tmp_path / "state", "state", first)
    files.fetch("state", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        files.part("state", *first.parts[0])


def test_damage_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    written(tmp_path / "film", 2 * PART)
    files = RemoteFiles(str(tmp_path / "storage"))
    manifest = files.put(tmp_path / "film", "film")
    part = tmp_path / "storage" / "film" / manifest.parts[1][0]
    part.write_bytes(b"x" + part.read_bytes()[1:])
    with pytest.raises(StoreError, match="is damaged") as refused:
        files.fetch("film", tmp_path / "there" / "film")
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "there").iterdir()) == []
    part.unlink()
    with pytest.raises(StoreError, match="one of its parts is missing"):
        files.fetch("film", tmp_path / "there" / "film")


def test_storage_that_fails_for_a_moment_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RemoteFiles(str(tmp_path / "storage"), waits=(0.0, 0.0))
    written(tmp_path / "film", 10)
    calls: list[str] = []
    pipe = files._files.pipe_file

    def shaky(place: str, data: bytes, **options: Any) -> None:
        calls.append(place)
        if len(calls) < 3:
            raise OSError("the network is down")
        pipe(place, data, **options)

    monkeypatch.setattr(files._files, "pipe_file", shaky)
    files.put(tmp_path / "film", "film")
    assert len(calls) == 3
    calls.clear()
    monkeypatch.setattr(files._files, "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("the network is down")))
    with pytest.raises(StoreError, match="the network is down"):
        files.put(tmp_path / "film", "other")


def test_a_url_that_nothing_can_open_is_refused() -> None:
    with pytest.raises(RequestError, match="artifacts=nothing://place"):
        RemoteFiles("nothing://place")
