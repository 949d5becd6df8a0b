"""`flickbook desktop` where no window can be opened, and what it refuses first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flickbook

SOURCE = Path(flickbook.__file__).parents[1]


def test_without_a_display_the_error_names_a_remedy(command: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    ran = command("desktop")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: window: cannot be opened (") and ran.stderr.count("\n") == 1
    assert "`flickbook generate`" in ran.stderr


def test_without_tk_the_error_says_how_to_install_it(work: Path) -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tkinter", "_tkinter"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from flickbook.cli.app import run
sys.exit(run(["desktop"]))
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: window: Python has no tkinter here; on Debian or Ubuntu: `sudo apt install")


def test_an_invalid_url_is_refused_before_a_window_opens(command: Any) -> None:
    for words in (["--url", "ftp://x"], ["--url", "http://user:word@x"]):
        ran = command("desktop", *words)
        assert ran.returncode == 2 and ran.stderr.startswith("error: --url ") and ran.stderr.count("\n") == 1
        assert "word" not in ran.stderr


def test_help_loads_no_tk() -> None:
    program = (
        "from flickbook.cli.app import run\nassert run(['desktop', '--help']) == 0\n"
        "import sys; print(sorted({'tkinter', 'torch', 'PIL'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
