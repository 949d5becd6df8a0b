"""Progress: a line for each phase where there is no terminal, a bar where there is one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import flickbook
from flickbook.cli.progress import ProgressLine
from flickbook.spec import Step

PROGRAM = """
from flickbook.cli.progress import ProgressLine
from flickbook.spec import Step
with ProgressLine() as show:
    for index in range(1, 4):
        show(Step("denoise", index, 3, index * 0.5))
    show(Step("decode", 1, 1, 0.25))
print("film.mp4")
"""


def test_progress_is_one_line_per_phase_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine() as show:
        for film in range(2):
            for index in range(1, 26):
                show(Step("denoise", index, 25, index * 0.1 + film))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["denoise 25/25 in 2.5 s", "denoise 25/25 in 3.5 s"]


def test_a_terminal_shows_a_bar_and_stdout_only_the_path() -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "TERM": "xterm"}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    drawn = os.read(controller, 100_000).decode()
    os.close(controller)
    assert ran.stdout == b"film.mp4\n"
    assert "decode" in drawn and "1/1" in drawn
