"""`flickbook models`: the list, one model, and both as JSON."""

from __future__ import annotations

import json

import pytest

from flickbook.catalogue import find, list_models
from flickbook.cli.app import run


def test_the_list_has_a_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [model.name for model in list_models()]


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["models"]
    assert (told["name"], told["sizes"], told["schedulers"][0]) == ("builtin", [[128, 128]], "ddim")


def test_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "builtin"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["num_frames"] == "1 to 16; 16 if unset"
    assert rows["size"] == "128x128"
    assert rows["scheduler"] == "ddim, dpm++, unipc; ddim if unset"


def test_one_model_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "builtin", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["revision"] == find("builtin").revision()


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "buildin"]) == 2
    assert "did you mean builtin?" in capsys.readouterr().err
