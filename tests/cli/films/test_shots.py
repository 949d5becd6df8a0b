"""`flickbook generate shots.toml`: refusals, a film, and a command that is killed and resumed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Command
from tests.patience import PATIENCE

from flickbook import settings
from flickbook.cli.app import run
from flickbook.media.inspect import read_recipe

LIST = """
fade = 1
[defaults]
seed = 7
num_inference_steps = 3
num_frames = 4
[[shots]]
prompt = "a red circle moving left on a blue background"
[[shots]]
prompt = "a yellow star on a black background"
text = "The end"
[[shots]]
prompt = "a yellow star spinning on a black background"
begins = "previous"
"""


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    path = tmp_path / "shots.toml"
    path.write_text(LIST)
    return path


@pytest.mark.parametrize(("words", "model"), [([], "zeroscope-v2-576w"), (["--model", "builtin"], "builtin")])
def test_the_list_names_the_model_unless_the_command_does(
    shots: Path, words: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shots.write_text(LIST.replace("seed = 7", 'seed = 7\nmodel = "zeroscope-v2-576w"'))
    assert run(["generate", str(shots), *words, "--dry-run", "--json"]) == 0
    assert {shot["plan"]["model"] for shot in json.loads(capsys.readouterr().out)["plan"]["shots"]} == {model}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--num-frames", "8"], "num_frames"),
        (["--prompt-at", "4:x"], "prompt_at"),
        (["--count", "2"], "count"),
        (["--steps-sheet", "a.png"], "steps_sheet"),
        (["--retry-below", "agreement:0.5"], "retry_below"),
        (["--output", "film.png"], "container"),
    ],
)
def test_options_of_one_film_are_refused(
    shots: Path, words: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", str(shots), *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == field, error


def test_a_dry_run_prints_each_shot(shots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", str(shots), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "shot 3" in out and "begins from the shot before" in out and "film     1.25 s  128x128" in out


@pytest.mark.slow
def test_a_shot_list_makes_one_film_with_its_recipe(shots: Path, tmp_path: Path, command: Command) -> None:
    film = tmp_path / "film.mp4"
    ran = command("generate", str(shots), "--output", str(film), "--interpolate", "2x")
    assert ran.returncode == 0 and ran.stdout.strip() == str(film), ran.stderr
    plan: Any = read_recipe(film).plan
    assert plan.task == "shots" and len(plan.shots) == 3 and plan.polish.interpolate == 2
    assert command("reproduce", str(film)).returncode == 0


#: The command, which names each shot that it keeps, and waits if `held`.
TOLD = """
import sys, time
from flickbook.engine.shots.takes import Takes
put = Takes.put
def told(self, number, clip):
    put(self, number, clip)
    print("kept shot", number, file=sys.stderr, flush=True)
    if sys.argv[1] == "held":
        time.sleep(600)
Takes.put = told
from flickbook.cli.app import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_killed_command_continues_with_the_shots_that_are_left(shots: Path, tmp_path: Path, command: Command) -> None:
    whole = tmp_path / "whole.mp4"
    assert command("generate", str(shots), "--output", str(whole)).returncode == 0
    film, words = tmp_path / "film.mp4", ["generate", str(shots), "--output", str(tmp_path / "film.mp4")]
    running = subprocess.Popen([sys.executable, "-c", TOLD, "held", *words], stderr=subprocess.PIPE, text=True)
    home, until = settings.load().jobs_dir or settings.load().data_dir / "jobs", time.monotonic() + PATIENCE
    while not list(home.rglob("takes/*.mkv")):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    running.kill()
    running.communicate()
    (job,) = [job for job in _jobs(command) if job["state"] in ("paused", "running")]
    assert not film.exists()
    call = [sys.executable, "-c", TOLD, "free", "jobs", "resume", job["id"]]
    resumed = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE)
    assert resumed.returncode == 0 and film.read_bytes() == whole.read_bytes(), resumed.stderr
    assert re.findall(r"kept shot (\d)", resumed.stderr) == ["2", "3"], "the first shot is not made again"


def _jobs(command: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(command("jobs", "list", "--json").stdout)["jobs"]
    return found
