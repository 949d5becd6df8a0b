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


def everything(controller: int) -> bytes:
    """Read a terminal to its end, after its other end was closed: one read returns only a part."""
    parts = []
    while True:
        try:
            parts.append(os.read(controller, 100_000))
        except OSError:  # Linux reports an input/output error at the end
            return b"".join(parts)
        if not parts[-1]:
            return b"".join(parts)


def test_a_terminal_shows_a_bar_and_stdout_only_the_path() -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "TERM": "xterm"}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    drawn = everything(controller).decode()
    os.close(controller)
    assert ran.stdout == b"film.mp4\n"
    assert "decode" in drawn and "1/1" in drawn


def test_the_bar_never_goes_backwards_over_several_films() -> None:
    line, shares = ProgressLine(2), []
    for phase, total in [("load", 1), ("encode", 1), ("denoise", 25), *2 * [("decode", 4), ("write", 1)]]:
        for index in range(1, total + 1):
            shares.append(line.after(phase, index, total, index * 0.1)[0])
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1.0
    # A retry with another seed begins again.
    assert line.after("denoise", 1, 25, 0.1)[0] == 1.0


def test_the_seconds_left_cover_the_other_films() -> None:
    line = ProgressLine(3)
    assert line.after("load", 1, 1, 2.0) == (pytest.approx(0.02), None)
    share, left = line.after("denoise", 1, 25, 1.0)
    assert left is None, "one step is too few"
    share, left = line.after("denoise", 25, 25, 25.0)
    # 25 s are 80 % of a film.
    assert left == pytest.approx(3 * (1 - share) * 25 / 0.8)
