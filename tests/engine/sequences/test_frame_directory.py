"""The directory of a sequence: what it takes for its own, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flickbook.engine.sequences.frame_directory import FrameDirectory, started
from flickbook.engine.sequences.sequence import plan_of
from flickbook.errors import OutputError
from flickbook.spec import Placement, Plan, Request

HERE = Placement()


def planned(**changes: object) -> Plan:
    request = Request.of(**{"prompt": "", "seed": 7, "guidance_scale": 4.0, **changes})
    return plan_of(["a red circle", "a blue square"], request, frames_per=2)


def picture(value: int) -> np.ndarray:
    made = np.full((128, 128, 3), value, np.uint8)
    made[: value + 1] = 200
    return made


@pytest.fixture
def album(tmp_path: Path) -> FrameDirectory:
    made = FrameDirectory(tmp_path / "new" / "film-frames", planned())
    made.check(HERE)
    assert not made.directory.parent.exists(), "asking leaves nothing behind"
    made.begin(HERE)
    return made


def test_the_directory_stores_its_plan_and_frames(album: FrameDirectory) -> None:
    kept = started(album.directory)
    assert kept is not None and kept.plan == album.plan and kept.placement == HERE
    assert json.loads((album.directory / "sequence.json").read_text())["plan"]["prompt_at"] == [[3, "a blue square"]]
    assert album.get("00000") is None
    album.put("00000", picture(9))
    found = album.get("00000")
    assert found is not None and np.array_equal(found, picture(9))
    assert sorted(path.name for path in album.directory.iterdir()) == ["00000.png", "sequence.json"]


def test_reopening_keeps_existing_frames(album: FrameDirectory) -> None:
    album.put("00001", picture(3))
    again = FrameDirectory(album.directory, planned())
    again.check(HERE)
    again.check()
    again.begin(HERE.model_copy(update={"decode_frames": 4, "rungs": ("denoise: slicing",)}))
    assert again.get("00001") is not None


@pytest.mark.parametrize("at", range(0, 400, 23))
def test_a_damaged_frame_is_ignored(album: FrameDirectory, at: int) -> None:
    made = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    album.put("00000", made)
    path = album.directory / "00000.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * at // 400])
    assert album.get("00000") is None
    damaged = bytearray(whole)
    damaged[len(whole) * at // 400] ^= 0x10
    path.write_bytes(damaged)
    kept = album.get("00000")
    assert kept is None or np.array_equal(kept, made)


def test_a_frame_of_another_position_or_sequence_is_ignored(album: FrameDirectory, tmp_path: Path) -> None:
    album.put("00000", picture(3))
    shutil.copy(album.directory / "00000.png", album.directory / "00001.png")
    assert album.get("00001") is None
    other = FrameDirectory(tmp_path / "other", planned(seed=8))
    other.begin(HERE)
    shutil.copy(album.directory / "00000.png", other.directory / "00000.png")
    assert other.get("00000") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, "seed is '7' in the directory, '8' here"),
        ({"guidance_scale": 5.0}, "guidance_scale is '4.0' in the directory, '5.0' here"),
        ({"seed": 8, "fps": 4.0, "guidance_scale": 5.0, "num_inference_steps": 3}, "and 1 more"),
    ],
)
def test_another_sequence_is_refused_with_the_difference(
    album: FrameDirectory, changes: dict[str, object], message: str
) -> None:
    other = FrameDirectory(album.directory, planned(**changes))
    with pytest.raises(OutputError, match="choose another --output, or add --overwrite") as refused:
        other.check(HERE)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_another_precision_is_refused(album: FrameDirectory) -> None:
    with pytest.raises(OutputError, match="dtype is 'float32' in the directory, 'bfloat16' here"):
        album.check(HERE.model_copy(update={"dtype": "bfloat16"}))


def test_overwriting_removes_old_frames_only(album: FrameDirectory) -> None:
    album.put("00000", picture(3))
    album.put("key-01", picture(4))
    (album.directory / "mine.txt").write_text("mine")
    (album.directory / "mine.png").write_text("mine")
    other = FrameDirectory(album.directory, planned(seed=8))
    other.check(HERE, overwrite=True)
    other.begin(HERE)
    assert sorted(path.name for path in album.directory.iterdir()) == ["mine.png", "mine.txt", "sequence.json"]
    assert started(album.directory).plan.seed == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": 1}', "\0", "[" * 100_000])
def test_an_unreadable_description_is_refused(album: FrameDirectory, text: str) -> None:
    (album.directory / "sequence.json").write_text(text)
    with pytest.raises(OutputError, match="cannot be read"):
        album.check(HERE)
    album.check(HERE, overwrite=True)
    album.begin(HERE)
    assert started(album.directory) is not None


def test_a_directory_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_text("mine")
    with pytest.raises(OutputError, match=r"no sequence\.json"):
        FrameDirectory(tmp_path, planned()).check(HERE)
    with pytest.raises(OutputError, match="is not a directory"):
        FrameDirectory(tmp_path / "00000.png", planned()).check(HERE, overwrite=True)


def test_a_temporary_file_left_by_a_kill_is_accepted(tmp_path: Path) -> None:
    directory = tmp_path / "film-frames"
    directory.mkdir()
    (directory / ".flickbook-0123.part").write_text("{")
    FrameDirectory(directory, planned()).check(HERE)
