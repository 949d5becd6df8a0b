"""`flickbook evaluate`: refusals, and the table of the built-in model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize(
    ("words", "field"),
    [(["builtin", "--prompts", "0"], "prompts"), (["bultin", "--prompts", "1"], "model")],
)
def test_invalid_options_are_refused(
    words: list[str], field: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == field
    assert list(work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
def test_evaluate_prints_a_table_and_writes_sheets(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "builtin", "--prompts", "4", "--out", "sheets", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prompts"] == 4
    assert list((work / "sheets").glob("*.png"))
