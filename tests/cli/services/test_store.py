"""`flickbook store` and `flickbook repair`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.jobs.conftest import Small, small  # noqa: F401

from flickbook.cli.app import run
from flickbook.jobs.api_keys import Keys
from flickbook.jobs.backend import Backend


@pytest.fixture
def jobs(work: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A store of three jobs."""
    monkeypatch.setenv("FLICKBOOK_STORE", "sqlite:///jobs.db")
    with Backend.at() as backend:
        backend.ask(backend.queue.submit([small(seed) for seed in range(3)]))
    return work / "jobs.db"


def test_a_sound_store_is_reported(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "check"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["the store is intact"]
    assert run(["repair"]) == 0
    assert "the store is intact" in capsys.readouterr().out


def test_a_backup_copy_holds_all_jobs(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "backup", "copy.db"]) == 0
    assert run(["store", "check", "--store", "sqlite:///copy.db", "--json"]) == 0
    document = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert document["jobs"]["queued"] == 3 and document["sound"]
    assert run(["store", "backup", "copy.db"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_damaged_store_is_quarantined_and_restored(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(jobs.read_bytes())
    data[100:2000] = bytes(1900)
    jobs.write_bytes(data)
    assert run(["jobs", "list"]) == 2
    assert "flickbook repair" in capsys.readouterr().err
    assert run(["repair", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["quarantined"]).read_bytes() == data
    assert run(["jobs", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 3


@pytest.fixture
def keyless(jobs: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A store whose only key is damaged."""
    assert run(["keys", "create", "--name", "laptop"]) == 0
    db = sqlite3.connect(jobs)
    db.execute("UPDATE notes SET due = 1.0 WHERE kind = 'key'")
    db.commit()
    db.close()
    capsys.readouterr()
    return jobs


def test_lost_keys_are_named_and_the_service_reopened_on_request(
    keyless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["repair"]) == 0
    output = capsys.readouterr().out
    assert "lost 1 API key: laptop (" in output
    assert "flickbook keys create --name NAME" in output and "flickbook repair --open" in output
    with Backend.at() as backend:
        assert backend.ask(Keys(backend.store).lost())
    assert run(["repair", "--open"]) == 0
    assert "need no key now" in capsys.readouterr().err
    with Backend.at() as backend:
        assert not backend.ask(Keys(backend.store).exist())


def test_a_missing_file_is_not_called_sound(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daily backup is from before the first key: repair restores it, and names the keys that it lacks."""
    for name in ("laptop", "phone"):
        assert run(["keys", "create", "--name", name]) == 0
    jobs.unlink()
    capsys.readouterr()
    assert run(["repair"]) == 0
    output = capsys.readouterr().out
    assert "intact" not in output and "the store was missing" in output and "restored from the last backup:" in output
    assert "lost 2 API keys: " in output and "laptop (" in output and "phone (" in output
    assert run(["repair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True


def test_repair_json_lists_lost_keys_and_that_the_service_is_closed(
    keyless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["store", "repair", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in document["lost_keys"]] == ["laptop"] and document["closed"] is True


def test_repair_open_is_refused_while_keys_exist(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--name", "laptop"]) == 0
    assert run(["repair", "--open"]) == 2
    assert "--open: the store holds keys" in capsys.readouterr().err
    with Backend.at() as backend:
        assert backend.ask(Keys(backend.store).exist())


def test_repair_of_mongodb_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", "--store", "mongodb://user:secret@localhost/x"]) == 2
    output = capsys.readouterr().err
    assert "tools of the database server" in output and "secret" not in output
