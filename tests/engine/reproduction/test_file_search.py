"""Files that a recipe names by their hash, looked for where they may be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from tests.test_spec import PLAN, TREATMENT

from flickbook.engine.reproduction.file_search import gather, required_files
from flickbook.errors import MediaError
from flickbook.files import sha256
from flickbook.spec import Lora, Network, Plan, Polish


def picture(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def beginning(path: Path) -> Plan:
    return PLAN.model_copy(update={"image": sha256(path)})


def test_wanted_lists_the_input_files_of_a_plan() -> None:
    assert required_files(PLAN) == []
    polish = Polish(upscale=2, upscaler=Network(name="esrgan", sha256="d" * 64))
    plan = PLAN.model_copy(update={"video": "b" * 64, "loras": (Lora(name="ink", sha256="c" * 64),), "polish": polish})
    assert [each.role for each in required_files(plan)] == ["video", "LoRA ink", "upscaler esrgan"]
    assert [each.role for each in required_files(TREATMENT)] == ["source"]


def test_an_input_is_found_by_its_hash_under_any_name(tmp_path: Path) -> None:
    there = picture(tmp_path / "renamed.png")
    found = gather(beginning(there), tmp_path / "film.mp4")
    assert found.found == {sha256(there): there} and found.missing == ()


def test_an_input_is_found_at_its_old_path_or_a_given_one(tmp_path: Path) -> None:
    there = picture(tmp_path / "far" / "begin.png")
    plan, film = beginning(there), tmp_path / "film.mp4"
    assert gather(plan, film).missing
    assert gather(plan, film, known={sha256(there): str(there)}).found
    assert gather(plan, film, [there]).found


def test_a_changed_input_is_reported_with_both_hashes(tmp_path: Path) -> None:
    there = picture(tmp_path / "far" / "begin.png")
    plan, before = beginning(there), sha256(there)
    picture(there, grey=9)
    (message,) = gather(plan, tmp_path / "film.mp4", known={before: str(there)}).missing
    assert "was changed" in message and before in message and sha256(there) in message
    (message,) = gather(plan, tmp_path / "film.mp4", [there]).missing
    assert "is a different file" in message and before in message and sha256(there) in message


def test_a_given_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        gather(PLAN.model_copy(update={"image": "a" * 64}), tmp_path / "film.mp4", [tmp_path / "nothing.png"])


def test_pipes_loops_and_folders_are_skipped(tmp_path: Path) -> None:
    """A FIFO would be waited for for ever, and a loop has no end."""
    there = picture(tmp_path / "z.png")
    os.mkfifo(tmp_path / "a.png")
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    assert gather(beginning(there), tmp_path / "film.mp4").missing == ()
