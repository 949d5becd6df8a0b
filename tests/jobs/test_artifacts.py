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
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.store.base import ID, new_id


@given(st.text(max_size=40) | st.from_regex(ID).map(lambda id: id + "/.."))
def test_only_a_job_id_becomes_a_path(text: str) -> None:
    artifacts = ArtifactStore(Path("/nowhere"))
    if ID.fullmatch(text):
        assert artifacts.of(text).parents[1] == artifacts.root
    else:
        with pytest.raises(RequestError, match="is not a job id"):
            artifacts.of(text)


def test_progress_is_never_read_partially(tmp_path: Path) -> None:
    artifacts, id = ArtifactStore(tmp_path), new_id("job")
    assert artifacts.progress(id) == {} and artifacts.preview(id) is None and artifacts.read_log(id) == ""
    artifacts.write_progress(id, phase="denoise", fraction=0.5)
    progress = artifacts.progress(id)
    assert (progress["phase"], progress["fraction"]) == ("denoise", 0.5) and abs(progress["at"] - time.time()) < 60
    (artifacts.of(id) / "progress.json").write_bytes(b'{"phase": ')
    assert artifacts.progress(id) == {}
    (artifacts.of(id) / "progress.json").write_bytes(b"[1]")
    assert artifacts.progress(id) == {}


def test_an_unwritable_directory_causes_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    artifacts, id = ArtifactStore(tmp_path / "file"), new_id("job")
    artifacts.write_progress(id, fraction=0.5)
    artifacts.show(id, b"x")
    artifacts.log(id, "x")
    artifacts.watch(id)
    assert not artifacts.watched(id) and artifacts.size() == 0
    with pytest.raises(OutputError):
        artifacts.made(id)


def test_a_job_counts_as_watched_for_some_seconds(tmp_path: Path) -> None:
    artifacts, id = ArtifactStore(tmp_path), new_id("job")
    assert not artifacts.watched(id)
    artifacts.watch(id)
    assert artifacts.watched(id)
    os.utime(artifacts.of(id) / "watched", (0, time.time() - 11))
    assert not artifacts.watched(id)


def test_every_log_line_has_a_timestamp(tmp_path: Path) -> None:
    artifacts, id = ArtifactStore(tmp_path), new_id("job")
    artifacts.log(id, "first\nsecond")
    lines = artifacts.read_log(id).splitlines()
    assert [line.split("Z ")[1] for line in lines] == ["first", "second"]


def test_clear_returns_the_removed_bytes(tmp_path: Path) -> None:
    artifacts, one, two = ArtifactStore(tmp_path), new_id("job"), new_id("job")
    for id in (one, two):
        artifacts.film(artifacts.made(id).name, 1, ".mp4").write_bytes(bytes(1000))
    assert artifacts.ids() == sorted([one, two]) and artifacts.size() == 2000
    assert artifacts.clear(one) == 1000 and artifacts.clear(one) == 0
    assert artifacts.ids() == [two]


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id("job") for _ in range(1000)]
    assert len(set(ids)) == 1000 and all(ID.fullmatch(id) for id in ids)
    time.sleep(0.002)
    assert new_id("job") > ids[0]


def test_tidy_removes_only_files_of_earlier_attempts(tmp_path: Path) -> None:
    artifacts, id = ArtifactStore(tmp_path), new_id("job")
    place = artifacts.made(id)
    removed = {"film-1.mp4", "film-1.mp4.json", "film-2-part.mkv", ".flickbook-a1.part", ".progress.json.77"}
    stays = {"film-3.mp4", "film-3.mp4.json", "film-10.mp4", "checkpoint.safetensors", "given-image.png", "log.txt"}
    for name in removed | stays:
        (place / name).touch()
    artifacts.tidy(id, 3)
    assert {path.name for path in place.iterdir()} == stays


def test_the_directory_of_a_batch_is_removed_with_its_last_job(tmp_path: Path) -> None:
    artifacts, jobs = ArtifactStore(tmp_path), [job(), job(), job()]
    first = artifacts.gather(jobs[:2])
    assert artifacts.batch(jobs[0].id) == (first, jobs[:2]) and artifacts.batch(jobs[2].id) == ("", [])
    batch = artifacts.gather(jobs)
    assert first not in artifacts.ids() and artifacts.batch(jobs[1].id) == (batch, jobs)
    assert artifacts.members(batch) == sorted(each.id for each in jobs)
    artifacts.forget(jobs[0].id)
    artifacts.clear(jobs[1].id)
    assert artifacts.batch(jobs[0].id) == ("", []) and artifacts.members(batch) == [jobs[2].id]
    (artifacts.of(batch) / "jobs.json").write_text("torn")
    assert artifacts.batch(jobs[2].id) == ("", [])
    artifacts.leave(jobs[2].id)
    artifacts.leave(jobs[2].id)
    assert artifacts.ids() == sorted(each.id for each in (jobs[0], jobs[2]))
