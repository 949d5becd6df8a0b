"""`flickbook train`: what is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_missing_configuration_is_refused(name: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", name, "--out", "runs"]) == 2
    assert capsys.readouterr().err.startswith(f"error: config={name}: no such file")
    assert list(work.iterdir()) == []
