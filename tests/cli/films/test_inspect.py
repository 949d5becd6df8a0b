"""`flickbook inspect`: what a file says, and that a stranger's file is only ever data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flickbook.cli.app import run
from flickbook.media.clip import Clip
from flickbook.media.write import write, write_png


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), dtype=np.uint8)


def test_inspect_shows_a_film_without_a_recipe(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(work / "a.mp4", frames(4), 8.0, None)
    assert run(["inspect", "a.mp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"container: mp4", "codec: h264", "width: 48", "height: 32", "frames: 4", "fps: 8"} <= set(lines)


def test_inspect_json_describes_an_image_without_recipe(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(work / "a.png", frames(1)[0], None)
    assert run(["inspect", "a.png", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["container"], document["frames"], document["recipe"], document["run"]) == ("png", 1, None, None)


def test_terminal_escapes_in_a_comment_are_not_printed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(work / "a.png", frames(1)[0], "\x1b]0;pwned\x07\nframes: 99")
    assert run(["inspect", "a.png"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out
    assert "frames: 99" not in out.splitlines()


@pytest.mark.parametrize("content", [None, b"", b"no film", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_not_a_film_is_refused(
    work: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (work / "a.mp4").write_bytes(content)
    assert run(["inspect", "a.mp4", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "media"
    assert err.startswith("error: a.mp4: ") and err.count("\n") == 1


def test_numbered_frames_are_inspected_by_their_pattern(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = np.zeros((3, 32, 48, 3), np.uint8)
    Clip(film, 8.0).save("shot-%02d.png")
    assert run(["inspect", "shot-%02d.png"]) == 0
    assert "path: shot-01.png" in capsys.readouterr().out
