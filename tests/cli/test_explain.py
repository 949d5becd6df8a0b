"""`flickbook explain`: from a prompt, from a film, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["a red circle", "--num-inference-steps", "0"], "num_inference_steps"),
        (["a red circle", "--model", "bultin"], "model"),
        (["missing.mp4"], "path"),
        (["note.txt"], "path"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    words: list[str], field: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "note.txt").write_text("no film")
    assert run(["explain", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == field or words[0] in error["message"]
    assert [path.name for path in work.iterdir()] == ["note.txt"]


def test_a_directory_with_a_report_is_refused_before_the_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "report").mkdir()
    (work / "report" / "index.html").write_text("mine")
    assert run(["explain", "a red circle", "--out", "report"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (work / "report" / "index.html").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.model
def test_a_film_is_run_again_from_its_recipe(work: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--num-frames", "2", "--num-inference-steps", "2", "--seed", "3"]
    assert run(["generate", "a red circle", *short, "-o", "film.mp4"]) == 0
    capsys.readouterr()
    assert run(["explain", "film.mp4", "--seed", "4"]) == 2
    assert "recipe" in capsys.readouterr().err
    assert run(["explain", "film.mp4", "--out", "report", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["plan"]["prompt"] == "a red circle" and document["seed"] == 3
    # The file is compressed, so the explained frames are near it and not equal.
    assert document["compared"]["psnr_db"] > 30
    assert (work / document["page"]).is_file()


@pytest.mark.slow
@pytest.mark.model
def test_the_directory_is_named_from_the_prompt(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "a red circle", "--seed", "3", "--num-frames", "1", "--num-inference-steps", "1"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.name == "index.html" and page.is_file()
    assert page.parent.name.endswith("-a-red-circle-3-explain")
