"""Films as frames that can be held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flickbook.desktop import frame_buffer
from flickbook.errors import MediaError
from flickbook.jobs.workers.progress import webp
from flickbook.media.clip import Clip


def clip(count: int, height: int, width: int) -> Clip:
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, :, :, 0] = np.linspace(20, 220, count, dtype=np.uint8)[:, None, None]
    return Clip(frames, 8.0)


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.gif", "film.webp", "film.apng"])
def test_all_frames_of_a_film_at_its_rate(tmp_path: Path, name: str) -> None:
    clip(5, 48, 64).save(tmp_path / name)
    found = frame_buffer.read(tmp_path / name)
    assert (len(found.frames), found.frames[0].size) == (5, (64, 48))
    assert found.seconds == pytest.approx(5 / 8, rel=0.05)
    middle = frame_buffer.still(tmp_path / name, 32)
    assert middle.size == (32, 24)
    assert abs(middle.getpixel((9, 9))[0] - 120) < 12  # type: ignore[index]


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    clip(1, 48, 64).save(tmp_path / "still.png")
    assert [frame.size for frame in frame_buffer.read(tmp_path / "still.png").frames] == [(64, 48)]


def test_frames_that_cannot_all_be_held_are_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_buffer, "_PIXELS", 20 * 100 * 100)
    clip(20, 200, 300).save(tmp_path / "film.mp4")
    found = frame_buffer.read(tmp_path / "film.mp4")
    assert len(found.frames) == 20 and sum(frame.width * frame.height for frame in found.frames) <= 20 * 100 * 100
    assert found.frames[0].width / found.frames[0].height == pytest.approx(1.5, rel=0.05)


def test_a_preview_comes_as_bytes() -> None:
    data = webp(clip(3, 20, 30).frames, 4.0)
    found = frame_buffer.of_bytes(data)
    assert (len(found.frames), found.fps, found.frames[0].size) == (3, 4.0, (30, 20))
    with pytest.raises(MediaError):
        frame_buffer.of_bytes(b"no film")
