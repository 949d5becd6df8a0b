"""The pages do what they say: their commands run in their order, their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def files(page: Path) -> list[tuple[str, str]]:
    """The files that a page shows: a name and a colon, then the text between fences."""
    return re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_their_order(page: Path, tmp_path: Path) -> None:
    for name, text in files(page):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for line in "".join(blocks(page, "bash")).splitlines():
        if line.startswith("flickbook "):
            words = [sys.executable, "-m", *shlex.split(line)]
            ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert ran.returncode == 0, f"{line}: {ran.stderr}"
        else:
            assert not line or line.startswith("#"), f"{line} is no command of ours"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    program = "\n".join(blocks(page, "python"))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
