"""`flickbook sequence`: refusals that cost nothing, real films, and what stays when one is stopped."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Command

import flickbook
from flickbook.catalogue import find
from flickbook.cli.app import run
from flickbook.cli.films.sequence import sequence as command_sequence
from flickbook.engine.sequences.sequence import DRIFT, FRAMES_PER, sequence
from flickbook.media.inspect import read_recipe
from flickbook.media.read import read_video

A, B = "a red circle on a blue background", "a yellow square on a green background"
SHORT = ["--frames-per", "2", "--num-inference-steps", "3", "--seed", "7"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["x", ""], "prompt"),
        (["x", "a\x1b[31m"], "prompt"),
        (["x", "--frames-per", "1"], "frames_per"),
        (["x", "y", "--frames-per", "0"], "frames_per"),
        (["x", "y", "--frames-per", "5001"], "frames_per"),
        (["x"] * 65, "prompts"),
        (["x", "--drift", "1.5"], "drift"),
        (["x", "--drift", "nan"], "drift"),
        (["x", "--feedback", "-1"], "feedback"),
        (["x", "--feedback", "0.01"], "feedback"),
        (["x", "--fps", "0"], "fps"),
        (["x", "--seed", "-1"], "seed"),
        (["x", "--size", "big"], "size"),
        (["x", "--size", "256x256"], "width"),
        (["x", "--scheduler", "euler"], "scheduler"),
        (["x", "--model", "nothing"], "model"),
        (["x", "--model", "animatediff", "--output", "a.mp4"], "model"),
        (["x", "--model-dir", "nowhere"], "model_dir"),
        (["x", "--precision", "fp12"], "precision"),
        (["x", "--output", "film.avi"], "output"),
        (["x", "--codec", "vp9", "--output", "film.mp4"], "codec"),
        (["x", "--output", "film.png"], "output"),
        (["x", "--output", "no-file/film.mp4", "--sheet", "sheet.pdf"], "sheet"),
        (["x", "--lora", "nowhere.safetensors"], None),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    words: list[str], field: str | None, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sequence", *words, "--json"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)["error"]
    assert field is None or document["field"] == field
    assert [line for line in err.splitlines() if not line.startswith("note: ")] == [f"error: {document['message']}"]
    assert len(document["message"]) < 300
    assert list(work.iterdir()) == []


def test_a_missing_prompt_is_a_usage_error(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    assert run(["sequence", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "prompts"


def test_library_and_command_have_the_same_names_and_defaults() -> None:
    ours, theirs = inspect.signature(sequence).parameters, inspect.signature(command_sequence).parameters
    # A size has two sides, the pictures' place follows the film's, and what only a command says.
    assert set(ours) - set(theirs) == {"width", "height", "directory", "on_step"}
    assert set(theirs) - set(ours) == {"size", "output", "sheet", "as_json", "codec", "quality", "pixel_format", "yes"}
    assert theirs["frames_per"].default == FRAMES_PER and theirs["drift"].default == DRIFT
    for name in set(ours) & set(theirs) - {"prompts"}:
        assert ours[name].default == theirs[name].default, name


@pytest.mark.parametrize("there", ["a.mp4", "a-sheet.png", "a-frames"])
def test_an_existing_output_is_refused_before_the_model_is_loaded(work: Path, there: str) -> None:
    (work / there).write_text("mine")
    program = (
        "import sys; from flickbook.cli.app import run\n"
        "code = run(['sequence', 'x', 'y', '--output', 'a.mp4'])\n"
        "print(code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", program], cwd=work, env=environment, capture_output=True, text=True)
    assert ran.stdout == "2 False\n", ran.stderr
    assert ran.stderr.count("\n") == 1
    assert [path.name for path in work.iterdir()] == [there] and (work / there).read_text() == "mine"


@pytest.mark.slow
@pytest.mark.model
def test_sequence_writes_film_frames_and_sheet(work: Path, command: Command) -> None:
    ran = command("sequence", A, B, *SHORT, "--fps", "6")
    assert ran.returncode == 0, ran.stderr
    path = work / ran.stdout.splitlines()[-1]
    assert path.parent == work / "outputs" and path.name.endswith("-a-red-circle-on-a-blue-background-7.mp4")
    assert sorted(each.name.removeprefix(path.stem) for each in path.parent.iterdir()) == [
        "-frames",
        "-sheet.png",
        ".mp4",
        ".mp4.json",
    ]
    lines = ran.stderr.splitlines()
    assert [line.split()[0] for line in lines if " in " in line and "note" not in line] == [
        "load",
        "encode",
        "denoise",
        "write",
    ]
    frames, fps = read_video(path)
    pictures = [np.asarray(Image.open(each)) for each in sorted((path.parent / f"{path.stem}-frames").glob("*.png"))]
    assert frames.shape == (4, 128, 128, 3) and fps == 6 and len(pictures) == 4
    assert np.abs(frames.astype(int) - np.stack(pictures)).mean() < 6, "the film shows the pictures"
    plan = read_recipe(path).plan
    assert (plan.task, plan.prompt_at, plan.drift, plan.feedback) == ("sequence", ((3, B),), 0.3, 0.0)
    with Image.open(path.with_name(f"{path.stem}-sheet.png")) as sheet:
        assert np.asarray(sheet.convert("L")).std() > 5


@pytest.mark.model
@pytest.mark.slow
def test_json_output_is_one_document(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--output", "new/a.mp4", "--sheet", "sheets/s.png", "--feedback", "0.7", "--json"]
    assert run(["sequence", A, B, *SHORT, *words]) == 0
    out, err = capsys.readouterr()
    (film,) = json.loads(out)["films"]
    assert set(film) == {"path", "sidecar", "seed", "recipe", "run", "sheet", "pictures"}
    assert (film["path"], film["sheet"], film["pictures"]) == ("new/a.mp4", "sheets/s.png", "new/a-frames")
    assert json.loads((work / film["sidecar"]).read_text()) == {"recipe": film["recipe"], "run": film["run"]}
    score = film["run"]["scores"]["coherence"]
    assert 0 < score <= 1 and f"note: coherence {score:.3f}: " in err
    assert film["recipe"]["plan"]["feedback"] == 0.7 and (work / "sheets" / "s.png").is_file()


@pytest.mark.slow
@pytest.mark.model
def test_an_existing_film_or_frame_directory_is_replaced_only_with_overwrite(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sequence", A, B, *SHORT, "--output", "a.mp4"]) == 0
    first = (work / "a.mp4").read_bytes()
    assert run(["sequence", A, B, *SHORT, "--output", "a.mp4"]) == 2
    assert "exists already" in capsys.readouterr().err
    for name in ("a.mp4", "a.mp4.json", "a-sheet.png"):
        (work / name).unlink()
    assert run(["sequence", A, B, *SHORT, "--output", "a.mp4", "--num-inference-steps", "4"]) == 2
    err = capsys.readouterr().err
    assert (
        "num_inference_steps is '3' in the directory, '4' here" in err
        and "choose another --output, or add --overwrite" in err
    )
    assert run(["sequence", A, B, *SHORT, "--output", "a.mp4"]) == 0
    assert "4 of the frames existed already" in capsys.readouterr().err
    assert (work / "a.mp4").read_bytes() == first
    assert run(["sequence", A, B, *SHORT, "--output", "a.mp4", "--num-inference-steps", "4", "--overwrite"]) == 0
    assert (work / "a.mp4").read_bytes() != first


@contextmanager
def running(work: Path, pictures: Path, count: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, once it has made `count` pictures."""
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
    restore_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    arguments = [sys.executable, "-m", "flickbook", "sequence", *words]
    with subprocess.Popen(
        arguments, cwd=work, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    ) as process:
        while process.poll() is None and len(list(pictures.glob("0*.png"))) < count:
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield process


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_sequence_resumes_to_the_same_bytes(
    work: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    words = [A, B, "--frames-per", "4", "--num-inference-steps", "6", "--feedback", "0.8"]
    with running(work, work / "new" / "a-frames", 2, *words, "--output", "new/a.mp4") as process:
        process.send_signal(number)
        rest = process.communicate()[1]
    assert process.returncode == code
    if number == signal.SIGINT:
        assert rest.splitlines()[-1] == "cancelled; run the same command with --output new/a.mp4 to continue"
        assert "Traceback" not in rest
    there = {path.name: path.read_bytes() for path in (work / "new" / "a-frames").glob("*.png")}
    assert 2 <= len(there) < 9 and not (work / "new" / "a.mp4").exists()
    seed = str(json.loads((work / "new/a-frames/sequence.json").read_text())["plan"]["seed"])
    assert run(["sequence", *words, "--output", "new/a.mp4"]) == 0
    assert f"{len(there)} of the frames existed already" in capsys.readouterr().err
    assert all((work / "new" / "a-frames" / name).read_bytes() == held for name, held in there.items())
    assert run(["sequence", *words, "--output", "whole.mp4", "--seed", seed]) == 0
    assert (work / "new" / "a.mp4").read_bytes() == (work / "whole.mp4").read_bytes()


def test_help_loads_no_heavy_module() -> None:
    program = (
        "from flickbook.cli.app import run; run(['sequence', '--help']); import sys; print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False" and "prompts" in ran.stdout


def test_a_wrong_output_is_refused_before_numpy_is_loaded(work: Path) -> None:
    program = "from flickbook.cli.app import run\ncode = run(['sequence', 'a', 'b', '--output', 'film.txt'])\n"
    program += "import sys; print(code, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=work, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["2", "False"], ran.stderr


@pytest.mark.model
def test_damaged_weights_are_refused_before_files_are_written(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(find("builtin").path(), tmp_path / "copy")
    weights = tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(["sequence", A, *SHORT, "--model-dir", str(tmp_path / "copy"), "--output", "a.mp4"]) == 2
    assert "diffusion_pytorch_model.safetensors" in capsys.readouterr().err
    assert list(work.iterdir()) == []
