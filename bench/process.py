"""Processes of their own, for figures that must not know what was before: seconds from the start, and peak memory.

The peak that the system keeps for a process includes what its parent held when it started it, and a process that
measures holds models; so a small one stands between.
"""

from __future__ import annotations

import os
import subprocess
import sys

_TIMED = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""
_HEARD = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a command. Raises CalledProcessError if it fails."""
    seconds, peak = _between(_TIMED, command).split()
    return float(seconds), float(peak)


def last_line(command: list[str]) -> str:
    """What a command printed last. Raises CalledProcessError if it fails."""
    return _between(_HEARD, command).strip().splitlines()[-1]


def _between(program: str, command: list[str]) -> str:
    words = [sys.executable, "-I", "-S", "-c", program, *command]
    # What is used more than once has its bytecode; the libraries of all others were compiled when they were installed.
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=given).stdout
