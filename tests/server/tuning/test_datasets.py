"""Uploaded datasets: what their files are stored as, and what is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile

from flickbook.errors import RequestError
from flickbook.server.tuning.datasets import keep, safe_name


def upload(name: str, content: bytes = b"x") -> UploadFile:
    return UploadFile(BytesIO(content), size=len(content), filename=name)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a.mp4", "a.mp4"),
        ("../../etc/a.mp4", "a.mp4"),
        ("C:\\clips\\a.MP4", "a.MP4"),
        ("/a b (1).txt", "a b (1).txt"),
        ("tänze:1.mp4", "tänze_1.mp4"),
        ("a\0b\n.png", "a_b_.png"),
    ],
)
def test_a_name_loses_its_directories_and_its_odd_characters(name: str, stored: str) -> None:
    assert safe_name(name) == stored


@pytest.mark.parametrize("name", ["", ".hidden.mp4", "..", "/", "a", "a.exe", ".mp4", "x" * 300 + ".mp4"])
def test_a_name_that_no_dataset_has_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="files"):
        safe_name(name)


def test_files_are_stored_in_one_directory_and_names_do_not_repeat(tmp_path: Path) -> None:
    keep([upload("x/a.mp4", b"clip"), upload("a.txt", b"a red circle")], tmp_path / "clips")
    assert {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()} == {
        "a.mp4": b"clip",
        "a.txt": b"a red circle",
    }
    with pytest.raises(RequestError, match="sent twice"):
        keep([upload("a.mp4"), upload("b/A.mp4")], tmp_path / "others")
    assert not (tmp_path / "others").exists()
