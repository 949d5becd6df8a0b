"""The story of eight shots: made by one command that is killed in every shot, and reproduced to the bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import Command
from tests.patience import PATIENCE

from flickbook import settings
from flickbook.cli.app import run
from flickbook.media.inspect import read_recipe
from flickbook.spec import Plan

STORY = Path(__file__).parents[2] / "examples/story"


def prepared(tmp_path: Path, seconds: float) -> Path:
    """The shot list of the story with shots of `seconds`, and its voice beside it."""
    story = (STORY / "story.toml").read_text(encoding="utf-8")
    shots = tmp_path / "story.toml"
    shots.write_text(re.sub(r"^seconds = .*", f"seconds = {seconds:g}", story, flags=re.MULTILINE), encoding="utf-8")
    words = [sys.executable, str(STORY / "voice.py"), str(tmp_path / "voice.wav"), f"{8 * seconds - 2:g}"]
    subprocess.run(words, check=True)
    return shots


def test_the_story_has_eight_shots_a_voice_and_titles() -> None:
    story = tomllib.loads((STORY / "story.toml").read_text())
    assert len(story["shots"]) == 8 and all(shot["text"] for shot in story["shots"]) and story["audio"] == "voice.wav"


@pytest.mark.slow
def test_the_story_can_be_made_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shots = prepared(tmp_path, 2)
    Image.new("RGB", (128, 128)).save(tmp_path / "hero.png")
    assert shots.read_text(encoding="utf-8") == (STORY / "story.toml").read_text(encoding="utf-8")
    assert run(["generate", str(shots), "--dry-run", "--output", str(tmp_path / "film.mp4")]) == 0
    assert "shot 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("during", "seconds"),
    [
        pytest.param((1, 4, 7), 0.5, marks=pytest.mark.slow),
        pytest.param(range(1, 8), 2, marks=pytest.mark.trial),
    ],
    ids=["three", "every"],
)
def test_the_story_survives_kills_in_its_shots_and_is_reproduced(
    during: Sequence[int], seconds: float, tmp_path: Path, command: Command
) -> None:
    """The film is made again without a kill, and every byte is equal."""
    shots, film = prepared(tmp_path, seconds), tmp_path / "film.mp4"
    star = ("a small yellow star on a black background", "--num-frames", "1", "--seed", "1")
    assert command("generate", *star, "--output", str(tmp_path / "hero.png")).returncode == 0
    words = ["generate", str(shots), "--num-inference-steps", "3", "--output", str(film)]
    home = settings.load().jobs_dir or settings.load().data_dir / "jobs"
    kills, until = 0, time.monotonic() + PATIENCE
    while not film.exists():
        assert time.monotonic() < until
        wanted = next((number for number in during if number > len(list(home.rglob("takes/*.mkv")))), 99)
        running = subprocess.Popen([sys.executable, "-m", "flickbook", *words], stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list(home.rglob("takes/*.mkv"))) < wanted:
            time.sleep(0.02)
        if running.poll() is None:  # that shot is finished, and the next one has begun
            running.kill()
            kills += 1
        running.wait()
    assert kills >= len(during) - 1
    plan = read_recipe(film).plan
    assert isinstance(plan, Plan) and plan.audio and len(plan.shots) == 8
    again = command("reproduce", str(film), "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["identical_files"] is True, again.stderr
