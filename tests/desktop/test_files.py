"""Copies of films, and their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.desktop.files import revealed, saved, suggested
from flickbook.desktop.sources.source import Entry
from flickbook.errors import FlickbookError, OutputError
from flickbook.resolution import resolve
from flickbook.spec import Request


def test_a_copy_is_whole_and_has_the_films_suffix(tmp_path: Path) -> None:
    film = tmp_path / "film-1.mp4"
    film.write_bytes(b"a film")
    (tmp_path / "old.mp4").write_bytes(b"an older one")
    assert saved(film, tmp_path / "old.mp4", ".mp4").read_bytes() == b"a film"
    for path, why in (
        ("b.gif", "the film is a .mp4 file; name it b.mp4"),
        ("none/b.mp4", "No such file"),
        (".mp4", "the film is a"),
    ):
        with pytest.raises(OutputError, match=why):
            saved(film, tmp_path / path, ".mp4")
    (tmp_path / "place.mp4").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        saved(film, tmp_path / "place.mp4", ".mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film-1.mp4", "old.mp4", "place.mp4"]


@pytest.mark.parametrize(
    ("prompt", "name"), [("A red circle, moving!", "a-red-circle-moving-7.mp4"), ("…", "film-7.mp4")]
)
def test_a_name_is_suggested(prompt: str, name: str) -> None:
    plan = resolve(Request.of(prompt=prompt, seed=7))
    assert suggested(Entry("job_0", "film", "completed", plan, 0.0)) == name


def test_a_folder_that_cannot_be_shown_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FlickbookError, match=f"the film is in {tmp_path}"):
        revealed(tmp_path)
    with pytest.raises(FlickbookError, match="on another machine"):
        revealed(None)


def test_a_folder_is_shown_by_the_systems_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/told"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("sys.platform", "linux")
    revealed(tmp_path)
    from tests.desktop.conftest import until

    until(lambda: (tmp_path / "told").exists() and (tmp_path / "told").read_text() == f"{tmp_path}\n")
