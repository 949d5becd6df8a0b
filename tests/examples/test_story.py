"""The story of eight shots: made by one command that is killed in every shot, and reproduced to the bit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.conftest import Command
from tests.patience import PATIENCE

from flickbook import settings
from flickbook.media.inspect import read_recipe
from flickbook.spec import Plan

STORY = Path(__file__).parents[2] / "examples/story"


def prepared(tmp_path: Path, command: Command) -> Path:
    """The shot list of the story, with its voice and the picture of its subject beside it."""
    shutil.copy(STORY / "story.toml", tmp_path)
    subprocess.run([sys.executable, str(STORY / "voice.py"), str(tmp_path / "voice.wav"), "14"], check=True)
    star = ("a small yellow star on a black background", "--num-frames", "1", "--seed", "1")
    assert command("generate", *star, "--output", str(tmp_path / "hero.png")).returncode == 0
    return tmp_path / "story.toml"


def test_the_story_has_eight_shots_a_voice_and_titles() -> None:
    story = tomllib.loads((STORY / "story.toml").read_text())
    assert len(story["shots"]) == 8 and all(shot["text"] for shot in story["shots"]) and story["audio"] == "voice.wav"


@pytest.mark.parametrize(
    "during",
    [pytest.param((1, 4, 7), marks=pytest.mark.slow), pytest.param(range(1, 8), marks=pytest.mark.trial)],
    ids=["three", "every"],
)
def test_the_story_survives_kills_in_its_shots_and_is_reproduced(
    during: Sequence[int], tmp_path: Path, command: Command
) -> None:
    shots = prepared(tmp_path, command)
    quick = ["generate", str(shots), "--num-inference-steps", "4", "--output"]
    whole, film = tmp_path / "whole.mp4", tmp_path / "film.mp4"
    assert command(*quick, str(whole)).returncode == 0
    home = settings.load().jobs_dir or settings.load().data_dir / "jobs"
    kills, until = 0, time.monotonic() + PATIENCE
    while not film.exists():
        assert time.monotonic() < until
        wanted = next((number for number in during if number > len(list(home.rglob("takes/*.mkv")))), 99)
        running = subprocess.Popen([sys.executable, "-m", "flickbook", *quick, str(film)], stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list(home.rglob("takes/*.mkv"))) < wanted:
            time.sleep(0.02)
        if running.poll() is None:  # that shot is finished, and the next one has begun
            running.kill()
            kills += 1
        running.wait()
    assert kills >= len(during) - 1 and film.read_bytes() == whole.read_bytes()
    plan = read_recipe(film).plan
    assert isinstance(plan, Plan) and plan.audio and len(plan.shots) == 8
    assert command("reproduce", str(film)).returncode == 0
