"""Facts of many files: the same as of one, remembered until a file changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.facts import Facts, facts_of
from flickbook.media.read import read_picture
from flickbook.media.write import write, write_png


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A video, a picture turned by its orientation, and a damaged one."""
    write(tmp_path / "a.mp4", np.zeros((5, 32, 48, 3), np.uint8), 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 255, (96, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "c.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:-2000])
    return [tmp_path / name for name in ("a.mp4", "b.jpg", "c.jpg")]


def test_videos_and_pictures_are_told_apart_by_their_contents(paths: list[Path]) -> None:
    film, turned, damaged = facts_of(paths).values()
    assert film == Facts(5, 48, 32, 8.0)
    assert turned == Facts(1, 96, 64, 0.0)
    assert read_picture(paths[1]).shape == (64, 96, 3)
    assert isinstance(damaged, MediaError)


@pytest.mark.slow
def test_facts_are_remembered_until_a_file_changes(paths: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache/facts.json"
    first = facts_of(paths, cache)
    document = json.loads(cache.read_text())
    assert set(document["files"]) == {str(path) for path in paths[:2]}  # a damaged file is looked at again
    # Other values than the true ones show that the file was not read again.
    document["files"][str(paths[0])][2] = 7
    cache.write_text(json.dumps(document))
    assert facts_of(paths, cache)[paths[0]] == Facts(7, 48, 32, 8.0)
    os.utime(paths[0], ns=(1, 1))
    assert facts_of(paths[:2], cache) == dict(list(first.items())[:2])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 1, "files": {"a": 1}}', b"[" * 100_000, b"\xff"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, content: bytes) -> None:
    write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    cache = tmp_path / "facts.json"
    cache.write_bytes(content)
    assert facts_of([tmp_path / "a.png"], cache) == {tmp_path / "a.png": Facts(1, 8, 8, 0.0)}
    assert len(json.loads(cache.read_text())["files"]) == 1


def test_what_was_read_before_an_interrupt_is_remembered(paths: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "facts.json"

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        facts_of(paths[:2], cache, interrupt)
    assert len(json.loads(cache.read_text())["files"]) == 1


def test_a_cache_that_cannot_be_written_does_no_harm(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert facts_of(paths[:1], tmp_path / "file/facts.json") == {paths[0]: Facts(5, 48, 32, 8.0)}
