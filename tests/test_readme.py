"""The README does what it says: its Python runs, its commands run in their order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_language_is_one_that_is_run_or_only_shown() -> None:
    assert set(re.findall(r"^```(\w+)", README, re.MULTILINE)) <= {"bash", "python", "text"}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_the_python_runs(tmp_path: Path) -> None:
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "square.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path: Path) -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("flickbook ")]
    assert len(commands) >= 5
    for command in commands:
        ran = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
    assert {path.name for path in tmp_path.iterdir()} >= {"city.mp4", "city.mp4.json", "sunset.png", "steps.png"}
    assert len(list((tmp_path / "outputs").glob("*.mp4"))) == 3
