"""A usage error names what the person probably meant."""

from __future__ import annotations

import pytest

from flickbook.cli.app import run


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["generate", "a", "--steps", "4"], "Use --num-inference-steps."),
        (["draft", "a", "--width", "128"], "Use --size WxH."),
        (["generate", "a", "red", "circle", "--seed", "1"], 'flickbook generate "a red circle"'),
        (["generate", "a red circle", "--sead", "1"], "--seed"),
    ],
)
def test_usage_errors_name_the_probable_intent(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line and line.endswith("--help`.")
