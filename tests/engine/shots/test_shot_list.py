"""Shot lists: what a document means, and what is refused with the number of its shot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flickbook.engine.shots import shot_list
from flickbook.errors import RequestError

TOML = """
fade = 2
[subjects]
hero = "a red circle"
[defaults]
seed = 7
size = "128x128"
[[shots]]
prompt = "{hero} moving left on a blue background"
seconds = 2
image = "start.png"
[[shots]]
prompt = "the {hero}"
begins = "previous"
num_frames = 8
"""


def test_toml_and_json_give_the_same_shots() -> None:
    found = shot_list.parsed("shots.toml", TOML.encode())
    document = {
        "fade": 2,
        "subjects": {"hero": "a red circle"},
        "defaults": {"seed": 7, "size": "128x128"},
        "shots": [
            {"prompt": "{hero} moving left on a blue background", "seconds": 2, "image": "start.png"},
            {"prompt": "the {hero}", "begins": "previous", "num_frames": 8},
        ],
    }
    assert shot_list.parsed("shots.json", json.dumps(document).encode()) == found
    first, second = found.options({"seed": 3})
    assert first["prompt"] == "a red circle moving left on a blue background" and first["seconds"] == 2.0
    assert (first["width"], first["seed"], second["begins"]) == (128, 3, "previous")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "shots.toml").write_text(TOML)
    found = shot_list.read(tmp_path / "shots.toml")
    assert found.shots[0]["image"] == str(tmp_path / "start.png")


def test_seconds_of_a_shot_replace_the_frames_of_the_defaults() -> None:
    document = {"defaults": {"num_frames": 8}, "shots": [{"prompt": "a", "seconds": 1}, {"prompt": "b"}]}
    first, second = shot_list.of(document).options()
    assert "num_frames" not in first and second["num_frames"] == 8


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "shots"),
        ({"shots": []}, "must be 1 to 64"),
        ({"shots": [{"prompt": "a"}], "fades": 2}, 'did you mean "fade"'),
        ({"shots": [{"prompt": "a", "secnds": 2}]}, 'shot 1.*did you mean "seconds"'),
        ({"shots": [{"prompt": "a"}, {"prompt": "a", "seconds": -1}]}, "shot 2.*above 0"),
        ({"shots": [{"prompt": "a", "begins": "later"}]}, 'shot 1.*write "previous"'),
        ({"shots": [{"prompt": "a"}], "fade": -1}, "whole number of frames"),
        ({"shots": [{"prompt": "a"}], "subjects": {"x": 3}}, "must have words"),
    ],
)
def test_refusals_name_the_shot_and_the_remedy(document: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        shot_list.of(document)


def test_unknown_subject_is_refused() -> None:
    with pytest.raises(RequestError, match="shot 1.*names no subject"):
        shot_list.of({"shots": [{"prompt": "{hero} runs"}]}).options()


def test_a_file_that_is_no_shot_list_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.toml", "shots = ["), ("a.json", "{")):
        with pytest.raises(RequestError, match="is not valid"):
            shot_list.parsed(name, text.encode())
    with pytest.raises(RequestError, match="cannot be read"):
        shot_list.read(tmp_path / "none.toml")
