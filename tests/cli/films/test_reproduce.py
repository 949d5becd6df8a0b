"""`flickbook reproduce`, `rerun` and `diff` as commands: exit codes, one line, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flickbook.cli.app import run
from flickbook.engine.generate import generate
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.media.read import read_video
from flickbook.spec import Plan

PROMPT = "a red circle moving left on a blue background"
SHORT = ["--num-inference-steps", "2", "--num-frames", "4", "--seed", "7"]


@pytest.fixture
def film(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run(["generate", PROMPT, *SHORT, "--output", "film.mp4"]) == 0
    capsys.readouterr()
    return Path("film.mp4")


def printed_document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_an_identical_film_exits_0_and_prints_one_word(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", str(film)]) == 0
    assert capsys.readouterr().out == "identical\n"
    assert run(["reproduce", str(film), "--json", "--output", "again.mp4"]) == 0
    verdict = printed_document(capsys)
    assert (verdict["outcome"], verdict["exit_code"], verdict["causes"]) == ("identical", 0, [])
    assert verdict["identical_files"] and Path("again.mp4").read_bytes() == film.read_bytes()


def test_a_missing_input_exits_11(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64), (0, 160, 0)).save("begin.png")
    assert run(["generate", PROMPT, *SHORT, "--image", "begin.png", "--output", "film.mp4"]) == 0
    Path("begin.png").rename("kept.bin")
    capsys.readouterr()
    assert run(["reproduce", "film.mp4"]) == 11
    assert capsys.readouterr().out.startswith("differs because the image with SHA-256 ")
    assert run(["reproduce", "film.mp4", "--input", "kept.bin"]) == 0
    assert run(["reproduce", "film.mp4", "--input", "nothing.png"]) == 2


def test_a_file_without_a_recipe_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    for words in (["reproduce", "plain.png"], ["rerun", "plain.png"], ["diff", "plain.png", "plain.png"]):
        assert run(words) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: plain.png: carries no recipe") and err.count("\n") == 1


def test_rerun_keeps_unchanged_options(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rerun", "film.mp4", "--seed", "8", "--prompt", "a green star on a black background", "--json"]) == 0
    made = Path(printed_document(capsys)["films"][0]["path"])
    plan = carried(made)[0].plan
    assert isinstance(plan, Plan)
    assert (plan.seed, plan.prompt, plan.num_frames, plan.container) == (
        8,
        "a green star on a black background",
        4,
        "mp4",
    )
    assert run(["diff", "film.mp4", str(made)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["plan.prompt", "plan.seed", "frames_sha256"]
    assert lines[1] == "plan.seed: 7 -> 8"


def test_diff_of_equal_recipes_is_empty(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "film.mp4", "film.mp4"]) == 0
    assert capsys.readouterr().out == "the recipes are equal\n"
    assert run(["diff", "film.mp4", "film.mp4", "--json"]) == 0
    assert printed_document(capsys) == {"differences": []}


def test_a_low_score_tries_another_seed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", PROMPT, *SHORT, "--output", "film.mp4", "--retry-below", "sharp:1", "--retries", "1"]
    assert run(words) == 0
    assert capsys.readouterr().err.count("below 1") == 2
    for wrong in (["--retry-below", "sharp:2"], ["--retry-below", "sharp:0.5"], ["--retries", "2"]):
        more = ["--retries", "1"] if wrong == ["--retry-below", "sharp:2"] else []
        assert run(["generate", PROMPT, *SHORT, *wrong, *more]) == 2
    assert not list(Path().glob("flickbook*"))


def test_the_library_and_the_command_make_the_same_film(film: Path) -> None:
    clip = generate(PROMPT, num_inference_steps=2, num_frames=4, seed=7)
    assert clip.recipe == carried(film)[0]


def test_rerun_keeps_polish_and_encoding(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--upscale", "2x", "--codec", "h265", "--quality", "80", "--output", "film.mp4"]
    assert run(["generate", PROMPT, *SHORT, *words]) == 0
    assert run(["rerun", "film.mp4", "--seed", "8", "--text", "hi", "--output", "other.mp4"]) == 0
    plan = carried("other.mp4")[0].plan
    assert (plan.codec, plan.quality) == ("h265", 80)
    assert (plan.polish.upscale, plan.polish.text) == (2, "hi")


@pytest.mark.parametrize("words", [["--speed", "0"], ["--rate", "0"], ["--trim", ""], ["--speed", "0", "--text", "x"]])
def test_options_without_effect_are_refused(words: list[str], work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, *words]) == 2


def test_a_rate_that_the_format_cannot_store_is_refused_before_denoising(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", PROMPT, *SHORT, "--interpolate", "8x", "--output", "film.gif"]) == 2
    assert "denoise" not in capsys.readouterr().err


def test_terminal_escapes_in_a_recipe_are_not_printed(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run_ = carried(film)
    hostile = recipe.model_copy(update={"versions": {"torch": "\x1b[31m", "\x1b]0;x\x07": "1"}})
    frames, rate = read_video(film)
    hostile = hostile.model_copy(update={"frames_sha256": frames_sha256(frames)})
    Clip(frames, rate, hostile, run_).save("hostile.mp4")
    run(["reproduce", "hostile.mp4"])
    run(["diff", "film.mp4", "hostile.mp4"])
    assert "\x1b" not in capsys.readouterr().out
