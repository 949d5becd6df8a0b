"""`flickbook tune` as a command: the check, the training as a job, interruption, several processes, and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from tests.learn.tuning.conftest import case_of

import flickbook
from flickbook import catalogue
from flickbook.cli.app import run
from flickbook.cli.tune import SETTINGS
from flickbook.learn.tuning import cost
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.output import alone
from flickbook.learn.tuning.trainer import Tuner
from flickbook.media.clip import Clip

LORA = "pytorch_lora_weights.safetensors"
SMALL = ["--num-frames", "2", "--iterations", "4", "--batch", "2", "--rank", "2", "--sample-every", "0"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of two frames; one of them has an empty caption."""
    directory = tmp_path_factory.mktemp("clips")
    for number in range(3):
        Clip(np.full((2, 32, 32, 3), 60 * number, np.uint8), 8.0).save(directory / f"{number}.mp4")
        caption = "" if number == 2 else f"a zigzagging shade {number}"
        (directory / f"{number}.txt").write_text(caption, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small 3D U-Net with random weights: counting the operations of the built-in model takes several seconds."""
    directory = tmp_path_factory.mktemp("model")
    case_of("ms").save(directory)
    return directory


@pytest.fixture
def model(saved: Path) -> list[str]:
    """The option that names the small model, which is on the list."""
    added = case_of("ms").model(saved)
    catalogue.add(added)
    return ["--model", added.name]


def flick(words: list[str]) -> int:
    """The exit code of a command."""
    return run(words)


def test_the_help_names_the_defaults_of_a_training() -> None:
    told = {name: get_args(hint)[1].show_default for name, hint in SETTINGS.items()}
    plain = {name: text for name, text in told.items() if isinstance(text, str) and " " not in text}
    assert {"iterations", "batch", "rank", "patience", "validation"} <= set(plain)
    usual = TuneConfig()
    for name, text in plain.items():
        value = getattr(usual, name)
        assert text == (value if isinstance(value, str) else f"{value:g}"), name


def trainings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The trainings in the store."""
    assert flick(["jobs", "list", "--json"]) == 0
    return [each for each in json.loads(capsys.readouterr().out)["jobs"] if each["kind"] == "tune"]


@pytest.mark.slow
def test_check_reports_and_writes_nothing(
    clips: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lora"
    assert flick(["tune", str(clips), "--output", str(out), "--check", *SMALL, *model]) == 0
    text = capsys.readouterr().out
    assert "Buckets    2 frames of 16x16: 2 captions" in text
    assert "its caption is empty" in text
    assert "GiB needed" in text and "MiB of the host's memory" in text and "for 4 updates" in text
    assert not out.exists()


@pytest.mark.slow
def test_a_training_is_a_job_and_prints_its_directory(
    clips: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lora"
    assert flick(["tune", str(clips), "--output", str(out), *SMALL, *model]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    (job,) = trainings(capsys)
    assert job["state"] == "completed" and job["path"] == str(out / "with.mp4")
    film = tmp_path / "film.mp4"
    words = ["generate", "a zigzagging shade", "--lora", str(out), "--num-frames", "2", "--output", str(film)]
    assert flick([*words, *model]) == 0
    assert film.is_file()


@pytest.mark.slow
def test_the_same_command_continues_an_interrupted_training(
    clips: Path,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["tune", str(clips), "--output", str(tmp_path / "lora"), *SMALL, *model]
    update, done = Tuner.update, iter(range(100))

    def interrupted(tuner: Tuner) -> dict[str, float]:
        if next(done) == 2:
            raise KeyboardInterrupt
        return update(tuner)

    monkeypatch.setattr(cost, "_pass", lambda *_: (0, 0.0))
    monkeypatch.setattr(Tuner, "update", interrupted)
    assert flick(words) == 130
    assert flick(words) == 0
    capsys.readouterr()
    assert [job["state"] for job in trainings(capsys)] == ["completed"]


def test_a_directory_that_is_being_trained_is_refused_before_there_is_a_job(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lora"
    out.mkdir()
    with alone(out):
        assert flick(["tune", str(clips), "--output", str(out), *SMALL]) == 2
    error = capsys.readouterr().err
    assert f"{out}: another training is writing to this directory" in error and error.count("\n") == 1
    assert trainings(capsys) == []


@pytest.mark.slow
def test_several_processes_train_together(clips: Path, model: list[str], tmp_path: Path) -> None:
    out = tmp_path / "lora"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "flickbook"]
    words += ["tune", str(clips), "--output", str(out), *SMALL, *model, "--accelerate"]
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out)]
    assert (out / LORA).is_file()
    log = (out / "log.csv").read_text(encoding="utf-8").splitlines()
    assert len(log) == 2 and log[1].startswith("4,8,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rank", "0"], "--rank 0: must be 1 to 1024"),
        (["--lr", "2"], "--lr 2.0: must be 1e-08 to 1"),
        (["--precision", "int4"], "--precision int4: must be auto, fp32, bf16 or fp16"),
        (["--model", "flux-schnell"], "cannot be trained"),
        (["--full", "--train-text-encoder"], "--train-text-encoder"),
        (["--full", "--prior-prompts", "known.txt"], "--prior-prompts: cannot be combined with full"),
        (["--model", "wan-2.1-1.3b", "--prior", "2"], "--prior-prompts: missing; wan-2.1-1.3b has no captions"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert flick(["tune", str(clips), "--output", str(tmp_path / "lora"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "lora").exists()


def test_a_directory_that_is_no_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flick(["tune", str(tmp_path / "none"), "--output", str(tmp_path / "lora")]) == 2
    assert "no such directory; name the directory of the dataset" in capsys.readouterr().err


@pytest.mark.slow
def test_a_first_caption_may_be_longer_than_a_prompt(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Clip(np.zeros((2, 32, 32, 3), np.uint8), 8.0).save(tmp_path / "clips" / "0.mp4")
    (tmp_path / "clips" / "0.txt").write_text("a black square " * 200, encoding="utf-8")
    assert flick(["tune", str(tmp_path / "clips"), *model, "--output", str(tmp_path / "lora"), "--check"]) == 0
    assert "1 caption" in capsys.readouterr().out
