"""What every test shares: a clean environment, repeatable examples, and the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.loopback_hub import Hub, serving

import flickbook

SOURCE = Path(flickbook.__file__).parents[1]

# The same examples in every run, and no deadline: a slow machine is not a failure.
settings.register_profile("house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests may decide them."""
    for name in list(os.environ):
        if name.startswith("FLICKBOOK_"):
            monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / f"no-{name[4:-5].lower()}"))
    # What an earlier test's code made of a text is no answer to this one's.
    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "0")


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A model hub on loopback."""
    with serving() as server:
        yield server


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def command(work: Path) -> Command:
    """Run `python -m flickbook …` as a process of its own in the empty working directory."""

    def run(*arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1", "COLUMNS": "100"}
        words = [sys.executable, "-m", "flickbook", *arguments]
        return subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=300, **keywords)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
