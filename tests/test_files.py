"""A file appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flickbook.files import replace_whole, sha256


def test_a_file_is_replaced_by_the_whole_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    replace_whole(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_writer_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_whole(path, half)
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_what_would_never_end_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError):
            sha256(path)
