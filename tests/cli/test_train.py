"""`flickbook train`: what is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_missing_configuration_is_refused(name: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", name, "--out", "runs"]) == 2
    assert capsys.readouterr().err.startswith(f"error: CONFIG {name}: no such file")
    assert list(work.iterdir()) == []


def test_resume_needs_a_checkpoint(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "run.toml").write_text("seed = 1\n")
    assert run(["train", "run.toml", "--out", "runs", "--resume"]) == 2
    assert capsys.readouterr().err.startswith("error: --out runs: has no checkpoint")
    assert [path.name for path in work.iterdir()] == ["run.toml"]


def test_a_wrong_field_of_the_configuration_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "run.toml").write_text("sead = 1\n")
    assert run(["train", "run.toml", "--out", "runs"]) == 2
    assert capsys.readouterr().err.startswith("error: sead=1: no such field")
    assert [path.name for path in work.iterdir()] == ["run.toml"]
