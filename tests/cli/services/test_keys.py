"""`flickbook keys`: a key is printed once, listed without its text, and revoked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from flickbook.cli.app import run
from flickbook.cli.quantities import octets, seconds
from flickbook.errors import RequestError


@pytest.fixture(autouse=True)
def _at_work(work: Path, data: Path) -> None:
    """The store is in a directory of this test."""


def made(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["keys", *words]) == 0
    return capsys.readouterr().out


def test_a_key_is_created_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    token = made(capsys, "create", "--name", "laptop").strip()
    assert token.startswith("fb_") and len(token) == 3 + 10 + 1 + 43
    listed = made(capsys, "list")
    assert "laptop" in listed and "live" in listed and token[14:] not in listed
    id = listed.split()[0]
    assert id == token[3:13]
    assert "revoked" in made(capsys, "revoke", id)
    assert "revoked" in made(capsys, "list")


def test_create_accepts_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--name ci --owner team --scope create --scope read --expires 30d --quota 3600 --rate 60 --json"
    key = json.loads(made(capsys, "create", *words.split()))
    assert key["key"].startswith("fb_" + key["id"]) and "digest" not in key
    assert (key["owner"], key["scopes"], key["quota"], key["rate"]) == (
        "team",
        ["read", "create"],
        3600,
        60,
    )
    assert key["expires_at"] == pytest.approx(time.time() + 30 * 86_400, abs=60)
    (listed,) = json.loads(made(capsys, "list", "--json"))
    assert listed == {name: value for name, value in key.items() if name != "key"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "--name", "a b"], "--name a b: "),
        (["create", "--name", "a", "--scope", "root"], "--scope root: "),
        (["create", "--name", "a", "--expires", "soon"], "--expires soon: "),
        (["create", "--name", "a", "--expires", "0d"], "--expires 0d: "),
        (["revoke", "nothing"], "ID nothing: no such key"),
        (["list", "--store", "ftp://x"], "--store "),
    ],
)
def test_a_refusal_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_durations_and_sizes_are_parsed() -> None:
    assert [seconds("keep", each) for each in ("90s", "1.5m", "12h", "30d", "4w")] == [
        90,
        90,
        43_200,
        2_592_000,
        2_419_200,
    ]
    assert [octets("disk", each) for each in ("1K", "1.5M", "2g", "1T")] == [1024, 3 << 19, 2 << 30, 1 << 40]
    for bad in ("", "d", "30", "-1d", "1e3d", "3 d", "3dd", "0d", "٣d"):
        with pytest.raises(RequestError, match="write 90s"):
            seconds("keep", bad)
