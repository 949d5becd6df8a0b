"""`flickbook generate`: refusals that cost nothing, and real films."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import flickbook
from flickbook.cli.app import run
from flickbook.media.metrics.similarity import psnr
from flickbook.media.read import read_video

SHORT = ["--num-inference-steps", "3", "--seed", "7"]
PROMPT = "a red circle moving left on a blue background"


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["generate", ""], "prompt"),
        (["generate", "x" * 100_000], "prompt"),
        (["generate", "a\x1b[31m"], "prompt"),
        (["generate", os.fsdecode(b"caf\xe9")], "prompt"),
        (["generate", "x", "--num-inference-steps", "-3"], "num_inference_steps"),
        (["generate", "x", "--num-frames", "257"], "num_frames"),
        (["generate", "x", "--guidance-scale", "nan"], "guidance_scale"),
        (["generate", "x", "--fps", "0"], "fps"),
        (["generate", "x", "--seed", "-1"], "seed"),
        (["generate", "x", "--seed", str(2**63 - 1), "--count", "2"], "seed"),
        (["generate", "x", "--size", "big"], "size"),
        (["generate", "x", "--size", "256x256"], "width"),
        (["generate", "x", "--size", "128x256"], "height"),
        (["generate", "x", "--scheduler", "euler"], "scheduler"),
        (["generate", "x", "--model", "nothing"], "model"),
        (["generate", "x", "--count", "0"], "count"),
        (["generate", "x", "--count", "100000"], "count"),
        (["generate", "x", "--output", "film.avi"], "output"),
        (["generate", "x", "--output", "still.png", "--num-frames", "4"], "num_frames"),
        (["generate", "x", "--output", "film.mp4", "--num-frames", "1"], "num_frames"),
        (["generate", "x", "--output", "no-file/film.mp4", "--steps-sheet", "steps.pdf"], "steps_sheet"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    words: list[str], field: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)["error"]
    assert document["field"] == field
    assert err == f"error: {document['message']}\n"
    assert len(document["message"]) < 250
    assert list(work.iterdir()) == []


def test_an_existing_film_is_refused_before_the_model_is_loaded(work: Path) -> None:
    (work / "a-2.mp4").write_text("mine")
    program = (
        "import sys; from flickbook.cli.app import run\n"
        "code = run(['generate', 'x', '--count', '3', '--output', 'a.mp4'])\n"
        "print(code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", program], cwd=work, env=environment, capture_output=True, text=True)
    assert ran.stdout == "2 False\n"
    assert "a-2.mp4: exists already" in ran.stderr
    assert (work / "a-2.mp4").read_text() == "mine"


@pytest.mark.model
@pytest.mark.slow
def test_generate_prints_the_path_on_the_last_line(work: Path, command: Any) -> None:
    ran = command("generate", PROMPT, *SHORT)
    assert ran.returncode == 0, ran.stderr
    path = work / ran.stdout.splitlines()[-1]
    assert path.parent == work / "outputs"
    assert path.name.endswith("-a-red-circle-moving-left-on-a-blue-7.mp4")
    assert (path.parent / f"{path.name}.json").is_file()
    lines = ran.stderr.splitlines()
    assert [line.split()[0] for line in lines if " in " in line] == ["load", "encode", "denoise", "decode", "write"]
    shown = command("inspect", str(path))
    assert shown.returncode == 0
    assert f"prompt: {PROMPT}" in shown.stdout and "seed: 7" in shown.stdout
    document = json.loads(command("inspect", str(path), "--json").stdout)
    assert (document["frames"], document["width"], document["height"], document["fps"]) == (16, 128, 128, 8.0)
    assert document["recipe"]["plan"]["num_inference_steps"] == 3


@pytest.mark.model
@pytest.mark.slow
def test_the_same_plan_gives_the_same_bytes(work: Path, command: Any) -> None:
    hashes = set()
    for name in ("a.mp4", "b.mp4"):
        assert command("generate", PROMPT, *SHORT, "--output", name).returncode == 0
        hashes.add(hashlib.sha256((work / name).read_bytes()).hexdigest())
    assert len(hashes) == 1


@pytest.mark.slow
@pytest.mark.model
def test_several_films_are_one_json_document(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "--count", "2", "--output", "new/a.mp4", "--json"]) == 0
    films = json.loads(capsys.readouterr().out)["films"]
    assert [(film["path"], film["sidecar"], film["seed"]) for film in films] == [
        ("new/a-1.mp4", "new/a-1.mp4.json", 7),
        ("new/a-2.mp4", "new/a-2.mp4.json", 8),
    ]
    for film in films:
        assert set(film) == {"path", "sidecar", "seed", "recipe", "run"}
        beside = json.loads((work / film["sidecar"]).read_text())
        assert beside == {"recipe": film["recipe"], "run": film["run"]}
    assert films[0]["recipe"]["frames_sha256"] != films[1]["recipe"]["frames_sha256"]


@pytest.mark.slow
@pytest.mark.model
def test_films_of_a_batch_match_films_made_alone(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at once where memory allows: sums are rounded in another order, and nobody sees it."""
    assert run(["generate", PROMPT, *SHORT, "--count", "2", "--output", "a.mp4", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["films"][1]
    assert second["recipe"]["placement"]["batch"] == 2
    assert run(["generate", PROMPT, *SHORT[:2], "--seed", "8", "--output", "b.mp4", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["films"][0]
    assert alone["recipe"]["plan"] == second["recipe"]["plan"]
    assert psnr(read_video(work / "a-2.mp4")[0], read_video(work / "b.mp4")[0]) > 45
    assert run(["reproduce", "a-2.mp4"]) == 0, "the recipe knows of its company"


@pytest.mark.model
@pytest.mark.parametrize("words", [["--output", "still.png"], ["--num-frames", "1"]])
def test_one_frame_makes_an_image(work: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, *words]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (128, 128))


@pytest.mark.slow
@pytest.mark.model
def test_an_existing_film_is_replaced_only_with_overwrite(work: Path) -> None:
    (work / "a.mp4").write_text("mine")
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4"]) == 2
    assert (work / "a.mp4").read_text() == "mine"
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4", "--overwrite"]) == 0
    assert (work / "a.mp4").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.model
def test_steps_sheet_writes_a_contact_sheet(work: Path) -> None:
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4", "--steps-sheet", "sheets/steps.png"]) == 0
    with Image.open(work / "sheets" / "steps.png") as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.slow
@pytest.mark.model
def test_unlearned_words_are_named_and_the_film_is_made(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a walrus juggling", *SHORT, "--output", "a.mp4"]) == 0
    out, err = capsys.readouterr()
    assert out == "a.mp4\n"
    _, note = [line for line in err.splitlines() if line.startswith("note: ")]
    assert '"walrus"' in note and '"juggling"' in note and "text-to-video-ms-1.7b" in note


@pytest.mark.slow
@pytest.mark.model
def test_the_output_directory_comes_from_the_settings(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_OUTPUT_DIR", "elsewhere")
    assert run(["generate", PROMPT, *SHORT]) == 0
    assert len(list((work / "elsewhere").glob("*.mp4"))) == 1


@pytest.mark.slow
@pytest.mark.model
def test_a_full_disk_leaves_no_files(work: Path, command: Any) -> None:
    def nearly_full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    ran = command("generate", PROMPT, *SHORT, "--output", "new/a.mp4", preexec_fn=nearly_full)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: ")
    assert list(work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
def test_ctrl_c_exits_with_130_and_leaves_no_film(work: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    words = [sys.executable, "-m", "flickbook", "generate", PROMPT]
    words += ["--num-inference-steps", "100", "--output", "new/a.mp4"]
    # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
    restore_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        words, cwd=work, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("encode"):  # the next phase is the long one
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    (line,) = [line for line in rest.splitlines() if not re.match(r"(load|encode|denoise) \d", line)]
    assert re.fullmatch(r"cancelled; run `flickbook jobs resume job_\w+` to continue", line)
    assert "Traceback" not in rest
    assert list(work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
def test_ctrl_c_on_a_terminal_leaves_one_line(work: Path) -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "TERM": "xterm"}
    words = [sys.executable, "-m", "flickbook", "generate", PROMPT, "--num-inference-steps", "100", "-o", "a.mp4"]
    restore_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(words, cwd=work, env=environment, stderr=terminal, preexec_fn=restore_sigint)
    os.close(terminal)
    drawn = b""
    with suppress(OSError):  # the terminal closes with the process
        while found := os.read(controller, 100_000):
            drawn += found
            if b"denoise" in found and b"denoise" not in drawn[: -len(found)]:
                process.send_signal(signal.SIGINT)
    os.close(controller)
    assert process.wait() == 130
    *_, last = drawn.decode().rstrip().splitlines()
    assert re.search(r"cancelled; run `flickbook jobs resume job_\w+` to continue$", last), last
    # The bar is erased before the line.
    assert "denoise" not in last.rpartition("\x1b[2K")[2] and drawn.decode().count("cancelled") == 1
