"""`flickbook polish`: real films in, better ones out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flickbook.cli.app import run
from flickbook.media.inspect import inspect
from flickbook.media.read import read_video
from flickbook.media.write import write


@pytest.fixture
def film(work: Path) -> Path:
    """A square that moves two pixels a frame, 12 frames at 8 a second."""
    frames = np.full((12, 48, 64, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[16:32, 8 + 2 * number : 24 + 2 * number] = (220, 60, 60)
    write("film.mp4", frames, 8)
    return Path("film.mp4")


def test_all_polish_options_can_be_combined(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--interpolate", "3x", "--upscale", "2x", "--steady", "--loop", "pingpong", "--text", "moving"]
    assert run(["polish", "film.mp4", *words, "--output", "out.webm", "--sheet", "sheet.png"]) == 0
    assert capsys.readouterr().out == "out.webm\n"
    facts = inspect("out.webm")
    assert (facts["width"], facts["height"], facts["fps"]) == (128, 96, 24)
    assert facts["recipe"]["plan"]["polish"]["interpolate"] == 3 and facts["recipe"]["plan"]["origin"] is None
    assert inspect("sheet.png")["width"] > 500


def test_trim_rate_and_speed_change_frames_and_fps(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["polish", "film.mp4", "--trim", "0.5:1", "--output", "a.mp4"]) == 0
    assert len(read_video("a.mp4")[0]) == 4
    assert run(["polish", "film.mp4", "--rate", "24", "--output", "b.mp4"]) == 0
    assert (len(read_video("b.mp4")[0]), read_video("b.mp4")[1]) == (36, 24)
    assert run(["polish", "film.mp4", "--speed", "0.5", "--output", "c.mp4"]) == 0
    assert (len(read_video("c.mp4")[0]), read_video("c.mp4")[1]) == (12, 4)


def test_several_films_are_joined(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["polish", "film.mp4", "--join", "film.mp4", "--fade", "4", "--output", "two.mp4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["films"][0]
    assert len(read_video("two.mp4")[0]) == 20
    assert len(document["recipe"]["plan"]["sources"]) == 2 and document["recipe"]["plan"]["fade"] == 4


def test_polish_without_options_converts_the_format(film: Path) -> None:
    assert run(["polish", "film.mp4", "--output", "film.gif"]) == 0
    assert inspect("film.gif")["frames"] == 12


def test_the_default_output_is_beside_the_source(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["polish", "film.mp4", "--speed", "2"]) == 0
    assert capsys.readouterr().out == "film-polished.mp4\n"
    assert run(["polish", "film.mp4", "--speed", "2"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--interpolate", "9x"], "interpolate"),
        (["--interpolate", "1.5"], "interpolate"),
        (["--upscale", "5x"], "upscale"),
        (["--upscaler", "lanczos"], "upscaler"),
        (["--upscale", "2x", "--upscaler", "nothing.safetensors"], "model"),
        (["--interpolate", "2x", "--interpolator", "film.mp4"], "model"),
        (["--loop", "round"], "loop"),
        (["--trim", "2:1"], "trim"),
        (["--trim", "soon"], "trim"),
        (["--speed", "1000"], "speed"),
        (["--rate", "0"], "rate"),
        (["--text", "x" * 501], "text"),
        (["--text", "日本"], "text"),
        (["--codec", "mpeg2"], "codec"),
        (["--quality", "101"], "quality"),
        (["--pixel-format", "pal8"], "pixel_format"),
        (["--join", "nothing.mp4"], "file"),
        (["--join", "film.mp4", "--fade", "20"], "fade"),
    ],
)
def test_invalid_options_are_refused_and_nothing_is_written(
    words: list[str], field: str, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["polish", "film.mp4", *words, "--output", "out.mp4", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["field"] == field, document
    assert sorted(path.name for path in Path().iterdir()) == ["film.mp4"]
