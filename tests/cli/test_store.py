"""`flickbook store` and `flickbook repair`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.jobs.conftest import Small, small  # noqa: F401

from flickbook.cli.app import run
from flickbook.jobs.desk import Desk


@pytest.fixture
def jobs(work: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A store of three jobs."""
    monkeypatch.setenv("FLICKBOOK_STORE", "sqlite:///jobs.db")
    with Desk.at() as desk:
        desk.ask(desk.queue.submit([small(seed) for seed in range(3)]))
    return work / "jobs.db"


def test_a_sound_store_says_so(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "check"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["it is sound"]
    assert run(["repair"]) == 0
    assert "it is sound" in capsys.readouterr().out


def test_a_copy_holds_all_jobs(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "backup", "copy.db"]) == 0
    assert run(["store", "check", "--store", "sqlite:///copy.db", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert told["jobs"]["queued"] == 3 and told["sound"]
    assert run(["store", "backup", "copy.db"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_damaged_store_is_put_aside_and_saved(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(jobs.read_bytes())
    data[100:2000] = bytes(1900)
    jobs.write_bytes(data)
    assert run(["jobs", "list"]) == 2
    assert "flickbook repair" in capsys.readouterr().err
    assert run(["repair", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["quarantined"]).read_bytes() == data
    assert run(["jobs", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 3


def test_a_server_is_repaired_by_its_own_tools(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", "--store", "mongodb://user:secret@localhost/x"]) == 2
    said = capsys.readouterr().err
    assert "tools of its server" in said and "secret" not in said
