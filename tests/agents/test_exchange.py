"""docs/mcp.md: the exchange is what its program prints, and the table has every tool with its scope."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flickbook.agents.catalogue import TOOLS

PAGE = Path(__file__).parents[2] / "docs" / "mcp.md"


def block(language: str) -> str:
    """The block of a language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def exchange() -> str:
    """What the program prints, with short ids and paths."""
    with tempfile.TemporaryDirectory() as place:
        env = os.environ | {"FLICKBOOK_DATA_DIR": place}
        ran = subprocess.run([sys.executable, "-c", block("py")], env=env, capture_output=True, text=True, check=True)
    ids = dict.fromkeys(re.findall(r"job_[0-9a-z]{26}", ran.stdout))
    text = re.sub(r"file:///[^\"]*/", "file:///…/", ran.stdout)
    for number, id in enumerate(ids, 1):
        text = text.replace(id, f"job_{number}")
    return text


def test_the_table_has_every_tool_with_its_scope() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(tool.name, tool.scope) for tool in TOOLS.values()]


@pytest.mark.slow
def test_the_exchange_on_the_page_is_what_its_program_prints() -> None:
    assert exchange() == block("text")
