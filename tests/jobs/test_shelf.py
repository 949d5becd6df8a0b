"""The files of jobs: whole, below the root, and named by nobody but us."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.examples import job

from flickbook.errors import OutputError, RequestError
from flickbook.jobs.shelf import Shelf
from flickbook.store.base import ID, new_id


@given(st.text(max_size=40) | st.from_regex(ID).map(lambda id: id + "/.."))
def test_nothing_but_an_id_becomes_a_path(text: str) -> None:
    shelf = Shelf(Path("/nowhere"))
    if ID.fullmatch(text):
        assert shelf.of(text).parents[1] == shelf.root
    else:
        with pytest.raises(RequestError, match="no id of a job"):
            shelf.of(text)


def test_progress_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    shelf, id = Shelf(tmp_path), new_id("job")
    assert shelf.progress(id) == {} and shelf.preview(id) is None and shelf.read_log(id) == ""
    shelf.tell(id, phase="denoise", fraction=0.5)
    told = shelf.progress(id)
    assert (told["phase"], told["fraction"]) == ("denoise", 0.5) and abs(told["at"] - time.time()) < 60
    (shelf.of(id) / "progress.json").write_bytes(b'{"phase": ')
    assert shelf.progress(id) == {}
    (shelf.of(id) / "progress.json").write_bytes(b"[1]")
    assert shelf.progress(id) == {}


def test_what_nobody_can_write_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shelf, id = Shelf(tmp_path / "file"), new_id("job")
    shelf.tell(id, fraction=0.5)
    shelf.show(id, b"x")
    shelf.log(id, "x")
    shelf.watch(id)
    assert not shelf.watched(id) and shelf.size() == 0
    with pytest.raises(OutputError):
        shelf.made(id)


def test_a_watched_job_is_known_for_some_seconds(tmp_path: Path) -> None:
    shelf, id = Shelf(tmp_path), new_id("job")
    assert not shelf.watched(id)
    shelf.watch(id)
    assert shelf.watched(id)
    os.utime(shelf.of(id) / "watched", (0, time.time() - 11))
    assert not shelf.watched(id)


def test_a_log_has_a_time_on_every_line(tmp_path: Path) -> None:
    shelf, id = Shelf(tmp_path), new_id("job")
    shelf.log(id, "first\nsecond")
    lines = shelf.read_log(id).splitlines()
    assert [line.split("Z ")[1] for line in lines] == ["first", "second"]


def test_what_is_cleared_is_counted(tmp_path: Path) -> None:
    shelf, one, two = Shelf(tmp_path), new_id("job"), new_id("job")
    for id in (one, two):
        shelf.film(shelf.made(id).name, 1, ".mp4").write_bytes(bytes(1000))
    assert shelf.ids() == sorted([one, two]) and shelf.size() == 2000
    assert shelf.clear(one) == 1000 and shelf.clear(one) == 0
    assert shelf.ids() == [two]


def test_ids_sort_by_time_and_are_never_the_same() -> None:
    ids = [new_id("job") for _ in range(1000)]
    assert len(set(ids)) == 1000 and all(ID.fullmatch(id) for id in ids)
    time.sleep(0.002)
    assert new_id("job") > ids[0]


def test_what_killed_attempts_left_goes_and_the_rest_stays(tmp_path: Path) -> None:
    shelf, id = Shelf(tmp_path), new_id("job")
    place = shelf.made(id)
    gone = {"film-1.mp4", "film-1.mp4.json", "film-2-part.mkv", ".flickbook-a1.part", ".progress.json.77"}
    stays = {"film-3.mp4", "film-3.mp4.json", "film-10.mp4", "checkpoint.safetensors", "given-image.png", "log.txt"}
    for name in gone | stays:
        (place / name).touch()
    shelf.tidy(id, 3)
    assert {path.name for path in place.iterdir()} == stays


def test_a_batch_goes_with_the_last_of_its_jobs(tmp_path: Path) -> None:
    shelf, jobs = Shelf(tmp_path), [job(), job(), job()]
    first = shelf.gather(jobs[:2])
    assert shelf.batch(jobs[0].id) == (first, jobs[:2]) and shelf.batch(jobs[2].id) == ("", [])
    batch = shelf.gather(jobs)
    assert first not in shelf.ids() and shelf.batch(jobs[1].id) == (batch, jobs)
    assert shelf.members(batch) == sorted(each.id for each in jobs)
    shelf.forget(jobs[0].id)
    shelf.clear(jobs[1].id)
    assert shelf.batch(jobs[0].id) == ("", []) and shelf.members(batch) == [jobs[2].id]
    (shelf.of(batch) / "jobs.json").write_text("torn")
    assert shelf.batch(jobs[2].id) == ("", [])
    shelf.leave(jobs[2].id)
    shelf.leave(jobs[2].id)
    assert shelf.ids() == sorted(each.id for each in (jobs[0], jobs[2]))
