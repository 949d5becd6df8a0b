"""Where films go, and what is refused before a second of computing."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.cli.films.output_path import check, slug, targets
from flickbook.errors import OutputError


def test_prompts_become_readable_slugs() -> None:
    assert slug("A red circle, moving LEFT!") == "a-red-circle-moving-left"
    assert slug("Café über 夜") == "cafe-uber"
    assert slug("夜の街") == "film"
    assert slug("one two three four five six seven eight nine ten") == "one-two-three-four-five-six-seven-eight"
    assert slug("x" * 100) == "x" * 40


@pytest.mark.slow
@given(st.text())
def test_any_prompt_gives_a_plain_name(prompt: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(prompt))
    assert len(slug(prompt)) <= 40


def test_several_films_get_numbered_names() -> None:
    assert targets(Path("d/a.mp4"), Path("o"), "x", [7], "mp4") == [Path("d/a.mp4")]
    several = targets(Path("d/a.mp4"), Path("o"), "x", [7, 8, 9], "mp4")
    assert several == [Path("d/a-1.mp4"), Path("d/a-2.mp4"), Path("d/a-3.mp4")]


def test_default_names_have_time_prompt_and_seed(work: Path) -> None:
    (path,) = targets(None, Path("outputs"), "A red circle", [7], "png")
    assert re.fullmatch(r"\d{8}-\d{6}-a-red-circle-7\.png", path.name)
    assert path.parent == Path("outputs")
    path.parent.mkdir()
    path.touch()
    (another,) = targets(None, Path("outputs"), "A red circle", [7], "png")
    assert another != path and not another.exists()


@pytest.mark.parametrize("name", ["film.mp4", "new/deep/film.mp4"])
def test_checking_a_free_name_leaves_no_file(work: Path, name: str) -> None:
    check([work / name], 16, [work / "steps.png"], overwrite=False)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("taken", ["film.mp4", "film.mp4.json", "steps.png"])
def test_an_existing_file_is_refused_without_overwrite(work: Path, taken: str) -> None:
    (work / taken).write_text("mine")
    with pytest.raises(OutputError, match=f"{taken}: exists already; .*--overwrite"):
        check([work / "film.mp4"], 16, [work / "steps.png"], overwrite=False)
    check([work / "film.mp4"], 16, [work / "steps.png"], overwrite=True)
    assert (work / taken).read_text() == "mine"


def test_unwritable_places_are_refused(work: Path) -> None:
    (work / "folder.mp4").mkdir()
    (work / "file").write_text("")
    bad = {
        "folder.mp4": "is a directory",
        "file/film.mp4": "is not a directory",
        f"{'x' * 250}.mp4": "longer than",
        "/proc/nowhere/film.mp4": ".",
    }
    for name, reason in bad.items():
        with pytest.raises(OutputError, match=reason):
            check([work / name], 16, [], overwrite=True)


def test_one_name_for_two_files_is_refused(work: Path) -> None:
    with pytest.raises(OutputError, match="named twice"):
        check([work / "a.png"], 1, [work / "a.png"], overwrite=True)


def test_a_disk_that_refuses_writes_is_reported(work: Path, command: Any) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    ran: subprocess.CompletedProcess[str] = command("generate", "a red circle", "--output", "a.mp4", preexec_fn=full)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1
    assert list(work.iterdir()) == []


def test_too_little_space_for_all_films_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check([work / "a.mp4"], 16, [], overwrite=False)
    monkeypatch.setattr("flickbook.cli.films.output_path.BYTES_A_FILE", 2**60)
    with pytest.raises(OutputError, match="MiB are free"):
        check([work / "a.mp4"], 16, [], overwrite=False)
