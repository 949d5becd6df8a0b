"""`flickbook evaluate`: refusals, and the table of the built-in model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["builtin", "--prompts", "0"], "prompts"),
        (["bultin", "--prompts", "1"], "model"),
        (["builtin", "--seed", "1001"], "seed"),
        (["--beside", "elsewhere"], "beside"),
        (["--beside", "elsewhere", "--out", "report"], "beside"),
        (["builtin", "--curve", "report.json"], "curve"),
        (["sdxl", "--model-dir", "."], "model"),
        (["."], "model"),
        (["--curve", "report.json"], "file"),
    ],
)
def test_invalid_options_are_refused(
    words: list[str], field: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error.get("field") == field and "\n" not in error["message"]
    assert list(work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
def test_evaluate_prints_a_table_and_writes_sheets(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flickbook.learn.evaluation.evaluate._FEWEST", 1)  # true films of each group for the ceiling
    assert run(["evaluate", "builtin", "--prompts", "2", "--out", "sheets", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prompts"] == 2 and document["coverage"] == 1.0
    assert document["diversity"]["seeds"] == 4 and document["cost"]["seconds_per_film"] > 0
    assert document["temporal"]["films"]["films"] == document["temporal"]["true films"]["films"] == 2
    assert "distance" not in document, "of fewer than eight films it says nothing"
    assert {path.suffix for path in (work / "sheets").iterdir()} == {".png", ".json", ".md", ".html", ".csv"}


@pytest.mark.slow
@pytest.mark.model
def test_films_that_were_made_are_scored_and_mixed_with_an_earlier_report(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "films").mkdir()
    prompt = "a red circle moving left on a blue background"
    assert run(["generate", prompt, "--num-inference-steps", "1", "-o", "films/a.mp4"]) == 0
    assert run(["evaluate", "films", "--out", "first"]) == 0
    assert "core" in capsys.readouterr().out
    assert run(["evaluate", "films", "--out", "second", "--beside", "first", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["films"][0]["prompt"] == prompt, "the recipe in the film has its words"
    assert (work / "second/rate.html").read_text(encoding="utf-8").count("data:image/webp") == 1, "the same film once"
