"""`flickbook batch`: refusals that cost nothing, real films, and what stays when one fails or all is stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import SOURCE, Command
from tests.patience import until

from flickbook.cli.app import run
from flickbook.media.inspect import read_recipe
from flickbook.spec import Plan

SHORT = ["--num-inference-steps", "2", "--num-frames", "4"]
ROWS = "prompt,seed\na red circle moving left,7\na yellow square,\na yellow square,\n"
DOC = Path(__file__).parents[3] / "docs/batches.md"


def written(work: Path, text: str, name: str = "p.csv") -> str:
    (work / name).write_text(text, encoding="utf-8")
    return name


def batch(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the document and stderr of a batch."""
    capsys.readouterr()
    code = run(["batch", *words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def plan_of(path: Path) -> Plan:
    plan = read_recipe(path).plan
    assert isinstance(plan, Plan)
    return plan


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("prompt,num_frames\nx,1\ny,2\nz,999\n", [], "row 3: num_frames=999: must be 1 to 256; ask for 256 frames"),
        ("prompt,colour\nx,red\n", [], "header: column=colour: is not known; known are prompt, name, "),
        ("num_frames\n4\n", [], "row 1: prompt=: is empty"),
        ("prompt,model\nx,builtin\ny,bultin\n", [], "row 2: model=bultin: no such model; did you mean builtin?"),
        ("prompt,size\nx,big\n", [], "row 1: size=big: must be WIDTHxHEIGHT"),
        ("prompt,size,width\nx,128x128,128\n", [], "row 1: size=128x128: cannot be combined with width or height"),
        ("prompt,image\nx,none.png\n", [], "row 1: none.png: No such file"),
        ("prompt,lora\nx,none.safetensors\n", [], "none.safetensors: no such file"),
        ("prompt,quality\nx,101\n", [], "row 1: quality=101: must be 0 to 100"),
        ("prompt,prompt_at\nx,soon:y\n", [], "row 1: prompt_at=soon:y: must be FRAME:PROMPT"),
        ("prompt,interpolate\nx,9x\n", [], "row 1: interpolate=9x: must be a whole factor, 2x to 8x"),
        ("prompt,interpolate\nx,8x\n", ["--output", "{number}.gif"], "row 1: fps=64.0: gif plays at most 50"),
        ("prompt\nx\n", ["--output", "{prompt}.mp4"], "--output {prompt}: is not a field of the template"),
        ("prompt\nx\n", ["--output", "{number}"], '{number}: the suffix "" is not one of'),
        ("prompt\nx\n", ["--output", "{name}.mp4"], "row 1: name=: is missing"),
        ("prompt\nx\nx\n", ["--output", "{slug}.mp4"], "x.mp4: is the output of row 1 and of row 2"),
        ("prompt,name\nx,A\ny,a\n", ["--output", "{name}.mp4"], "a.mp4: is the output of row 1 and of row 2"),
        ("prompt\nx\n", ["--output", "p.csv/{number}.mp4"], "p.csv"),
        ("prompt\nx\n", ["--precision", "fp12"], "--precision fp12"),
        ("prompt\nx\n", ["--model-dir", "nowhere"], "model_dir=nowhere"),
        ("prompt\nx\n", ["--seed", "-1"], "row 1: seed=-1: must be 0 to"),
        ("prompt\nx\n", ["--num-frames", "0"], "row 1: num_frames=0: must be 1 to"),
        ("prompt\nx\n", ["--num-inference-steps", "0"], "row 1: num_inference_steps=0: must be 1 to"),
        ("prompt\nx\n", ["--fps", "0"], "row 1: fps=0.0: must be 1 to 60"),
        ("prompt\nx\n", ["--strength", "0"], "row 1: strength=0.0: "),
        ("prompt\nx\n", ["--speed", "0", "--loop", "blend"], "row 1: speed=0.0: "),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_nothing_is_written(
    text: str, words: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document, err = batch(capsys, written(work, text), *words)
    assert code == 2
    assert message in document["error"]["message"]
    assert [line for line in err.splitlines() if not line.startswith("note: ")] == [
        f"error: {document['error']['message']}"
    ]
    assert [path.name for path in work.iterdir()] == ["p.csv"]


def test_seed_0_is_used(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = batch(capsys, written(work, "prompt\nx\n"), "--seed", "0", "--dry-run")
    assert code == 0 and document["films"][0]["seed"] == 0


def test_a_dry_run_writes_nothing_and_draws_no_seed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(work, ROWS)
    code, document, _ = batch(capsys, name, *SHORT, "--output", "f/{number}-{seed}.mp4", "--dry-run")
    assert code == 0
    assert [film["path"] for film in document["films"]] == ["f/1-7.mp4", "f/2-{seed}.mp4", "f/3-{seed}.mp4"]
    assert [(film["kept"], film["seed"]) for film in document["films"]] == [(False, 7), (False, None), (False, None)]
    assert len(document["estimates"]) == 1
    assert run(["batch", name, "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert "outputs/p/1-a-red-circle-moving-left.mp4" in out and "0 of 3 films exist, 3 to make" in out
    assert [path.name for path in work.iterdir()] == ["p.csv"]


@pytest.mark.slow
def test_a_repeated_batch_keeps_its_finished_films(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(work, ROWS)
    words = [name, *SHORT, "--output", "f/{number}-{seed}.mp4"]
    code, document, _ = batch(capsys, *words)
    assert code == 0 and document["failed"] == []
    paths = [Path(film["path"]) for film in document["films"]]
    assert [(film["row"], film["kept"]) for film in document["films"]] == [(1, False), (2, False), (3, False)]
    seeds = [film["seed"] for film in document["films"]]
    assert seeds[0] == 7 and len(set(seeds)) == 3
    assert [plan_of(path).seed for path in paths] == seeds
    assert document["sheet"] == "f/p-sheet.png"
    with Image.open(document["sheet"]) as sheet:
        assert sheet.height > 3 * 128
    before = {path: path.stat().st_mtime_ns for path in paths}
    # One is gone, and the rows have moved and grown: what was drawn stays with its row's words.
    paths[1].unlink()
    Path(f"{paths[1]}.json").unlink()
    code, document, err = batch(capsys, *words)
    assert code == 0 and "2 of 3 films exist already and are kept" in err
    assert [film["kept"] for film in document["films"]] == [True, False, True]
    assert [film["seed"] for film in document["films"]] == seeds
    assert {path: path.stat().st_mtime_ns for path in paths if path != paths[1]}.items() <= before.items()
    assert all(film["recipe"]["frames_sha256"] and film["run"] for film in document["films"])
    # What is another film now is refused before anything is made, or made again.
    code, document, _ = batch(capsys, *words, "--guidance-scale", "3")
    assert (
        code == 2 and "row 1: f/1-7.mp4: exists and is another film: guidance_scale is" in document["error"]["message"]
    )
    code, document, _ = batch(capsys, *words, "--guidance-scale", "3", "--overwrite")
    assert code == 0 and [film["seed"] for film in document["films"]] == seeds
    assert [plan_of(path).guidance_scale for path in paths] == [3.0] * 3


@pytest.mark.slow
def test_rows_override_options_and_defaults(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "in").mkdir()
    Image.new("RGB", (64, 64), "red").save(work / "in/red.png")
    text = """
[defaults]
num_inference_steps = 4
num_frames = 3
seed = 5
[[films]]
prompt = "a red circle"
[[films]]
prompt = "a red circle"
num_frames = 1
[[films]]
prompt = "a red circle"
image = "red.png"
num_inference_steps = 5
loop = "pingpong"
codec = "h265"
"""
    written(work / "in", text, "films.toml")
    code, out, _ = batch(capsys, "in/films.toml", "--num-frames", "2")
    assert code == 0
    one, still, varied = (plan_of(Path(film["path"])) for film in out["films"])
    assert [film["path"] for film in out["films"]] == [
        f"outputs/films/{end}" for end in ("1-a-red-circle.mp4", "2-a-red-circle.png", "3-a-red-circle.mp4")
    ]
    assert (one.num_frames, one.num_inference_steps, one.seed, one.codec) == (2, 4, 5, "h264")
    assert (still.num_frames, still.container) == (1, "png")
    assert varied.image and (varied.num_inference_steps, varied.polish.loop, varied.codec) == (
        5,
        "pingpong",
        "h265",
    )


@pytest.mark.slow
def test_a_failed_row_is_reported_and_retried(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    name = written(work, "prompt,seed,image\na red circle,1,\na red circle,2,in.png\na red circle,3,\n")
    words = [name, "--num-inference-steps", "4", "--num-frames", "2"]
    code, document, err = batch(capsys, *words)
    assert code == 1
    assert [film["row"] for film in document["films"]] == [1, 3]
    (failed,) = document["failed"]
    assert (failed["row"], failed["code"]) == (2, "media")
    assert "note: 1 of 3 films failed: row 2; run the same command again to retry them" in err
    assert not os.path.exists(failed["path"]) and os.path.exists(document["sheet"])
    Image.new("RGB", (64, 64), "red").save(work / "in.png")
    code, document, _ = batch(capsys, *words)
    assert code == 0 and [film["kept"] for film in document["films"]] == [True, False, True]


@pytest.mark.slow
def test_a_damaged_film_is_reported(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [written(work, "prompt,seed\na red circle,1\n"), *SHORT]
    _, document, _ = batch(capsys, *words)
    film = Path(document["films"][0]["path"])
    data = film.read_bytes()
    # The recipe is whole, the pictures are not.
    start = data.index(b"mdat") + 4
    film.write_bytes(data[:start] + b"\xff" * 200 + data[start + 200 :])
    code, document, _ = batch(capsys, *words)
    assert code == 1 and document["films"] == []
    assert "delete the file and run again" in document["failed"][0]["message"]


@pytest.mark.slow
def test_files_of_other_programs_are_not_replaced(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [written(work, "prompt\na red circle\n"), *SHORT, "--output", "{number}.mp4"]
    sheet, journal = work / "p-sheet.png", work / "p-seeds.json"
    Image.new("RGB", (4, 4)).save(sheet)
    code, document, _ = batch(capsys, *words)
    assert code == 2 and "is not a batch sheet" in document["error"]["message"]
    sheet.unlink()
    journal.write_text("[]")
    code, document, _ = batch(capsys, *words)
    assert code == 2 and "exists and is not a batch journal" in document["error"]["message"]
    journal.unlink()
    assert [path.name for path in work.iterdir()] == ["p.csv"]


@pytest.mark.slow
def test_without_json_paths_are_printed(work: Path, command: Command) -> None:
    name = written(work, "prompt,seed\na red circle,1\nan azure zebra,2\n")
    ran = command("batch", name, *SHORT)
    assert ran.returncode == 0
    assert ran.stdout == "outputs/p/1-a-red-circle.mp4\noutputs/p/2-an-azure-zebra.mp4\n"
    assert "note: outputs/p/p-sheet.png shows 2 films\n" in ran.stderr
    assert "note: row 2: " in ran.stderr
    again = command("batch", name, *SHORT)
    assert again.stdout == ran.stdout
    assert "note: 2 of 2 films exist already and are kept\n" in again.stderr


@pytest.mark.slow
def test_a_stopped_batch_continues(work: Path) -> None:
    """Ctrl-C after the first film: it is whole, the seeds are kept, and the second run makes the rest alone."""
    rows = "".join(f"a red circle moving left,{steps}\n" for steps in (2, 2, 60, 2))
    name = written(work, "prompt,num_inference_steps\n" + rows)
    words = [sys.executable, "-m", "flickbook", "batch", name, "--num-frames", "8"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    home = work / "outputs/p"
    # A shell may have this process ignore Ctrl-C, which a child would inherit.
    restore_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        words, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restore_sigint
    ) as process:
        until(lambda: len(list(home.glob("*.mp4"))) >= 2 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert re.search(rb"\ncancelled; [123] of 4 films are in outputs/p; run the same command again to continue\n$", err)
    whole = {path: path.stat().st_mtime_ns for path in home.glob("*.mp4")}
    assert 1 <= len(whole) < 4 and not [path for path in home.iterdir() if path.name.startswith(".")]
    seeds = json.loads((home / "p-seeds.json").read_text())["seeds"]
    assert len(seeds) == 4
    subprocess.run(words, cwd=work, env=environment, check=True, capture_output=True)
    films = sorted(home.glob("*.mp4"))
    assert len(films) == 4 and {path: path.stat().st_mtime_ns for path in whole} == whole
    assert sorted(plan_of(path).seed for path in films) == sorted(seeds.values())


def test_code_blocks_of_the_batch_page_have_the_expected_languages() -> None:
    assert set(re.findall(r"^```(\w+)", DOC.read_text(encoding="utf-8"), re.MULTILINE)) == {
        "bash", "csv", "json", "text", "toml"
    }  # fmt: skip


@pytest.mark.slow
def test_the_commands_of_the_batch_page_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = DOC.read_text(encoding="utf-8")
    for name, content in re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        written(work, content, name)
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
    assert len(lines) == 6 and all(line.startswith("flickbook batch ") for line in lines)
    said = []
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line
        said.append(capsys.readouterr().err)
    assert "3 of 3 films exist already" in said[2]
    names = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    assert names >= {"outputs/shapes/3-a-white-star-on-a-black-background.png", "outputs/shapes/shapes-sheet.png"}
    assert names >= {"builtin/1-circle-7.webp", "shapes-sheet.png", "shapes-seeds.json"}
    assert names >= {"outputs/scenes/1-a-sunset-over-the-sea.mp4"} and "films" not in {
        name.split("/")[0] for name in names
    }
