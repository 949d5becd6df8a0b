"""`flickbook distill` as a command: what it refuses before a model is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wan-2.1-1.3b"], "is not of the 3D U-Net family"),
        (["text-to-video-ms-1.7b", "--steps", "64"], "must be one of 16, 8, 4, 2, 1: the teacher has 32"),
        (["text-to-video-ms-1.7b"], "has no captions of its own"),
        (["text-to-video-ms-1.7b", "--prompts", "missing.txt"], "missing.txt"),
    ],
)
def test_wrong_choices_are_refused_before_a_download(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of these models is here, so a command that looks for its files first says that instead."""
    monkeypatch.chdir(tmp_path)
    assert run(["distill", *arguments, "--out", "student"]) != 0
    assert said in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused_before_a_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out := tmp_path / "student").touch()
    assert run(["distill", "text-to-video-ms-1.7b", "--prompts", __file__, "--out", str(out)]) != 0
    assert "is not a directory" in capsys.readouterr().err
