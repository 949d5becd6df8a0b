"""How the process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest


def ended(program: str) -> tuple[int, str]:
    """Exit code and stdout of a Python program."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    return ran.returncode, ran.stdout


@pytest.mark.slow
def test_leaving_runs_what_was_to_run_and_loses_no_output() -> None:
    for heavy in ("", "import torch; "):
        program = heavy + "import atexit; from flickbook.__main__ import leave; "
        program += "atexit.register(print, 'bye'); print('x' * 100_000); leave(3)"
        assert ended(program) == (3, "x" * 100_000 + "\nbye\n")


@pytest.mark.slow
def test_leaving_waits_for_threads_that_are_not_done() -> None:
    program = "import torch, threading, time; from flickbook.__main__ import leave; "
    program += "threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start(); leave(0)"
    assert ended(program) == (0, "done\n")
