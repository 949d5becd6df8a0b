"""The pages do what they say: their commands run in their order, their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flickbook.cli.app import run

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
#: What runs elsewhere: the commands of a page in tests/cli/films/test_batch.py, the Python of a page in its notebook
#: (tests/examples/test_how_it_works.py).
COMMANDS_ELSEWHERE, PYTHON_ELSEWHERE = {"batches.md"}, {"how-it-works.md"}


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


def having(language: str, elsewhere: set[str]) -> list[Path]:
    return [page for page in PAGES if blocks(page, language) and page.name not in elsewhere]


@pytest.mark.slow
@pytest.mark.parametrize("page", having("bash", COMMANDS_ELSEWHERE), ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_their_order(page: Path, work: Path) -> None:
    """In this process: tests/test_readme.py runs commands as processes of their own."""
    for name, text in files(page):
        (work / name).write_text(text, encoding="utf-8")
    for line in "".join(blocks(page, "bash")).splitlines():
        if line.startswith("flickbook "):
            assert run(shlex.split(line)[1:]) == 0, line
        else:
            assert not line or line.startswith("#"), f"{line} is no command of ours"


@pytest.mark.slow
@pytest.mark.parametrize("page", having("python", PYTHON_ELSEWHERE), ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    program = "\n".join(blocks(page, "python"))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
