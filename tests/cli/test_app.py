"""The command as a whole: help, versions, options, and what an error looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import flickbook
from flickbook.cli.app import command_line, run

OPTIONS = Path(__file__).with_name("options.txt")


def options(command: Any, name: str) -> Iterator[str]:
    """One line for each parameter of `command` and of the commands below it."""
    for parameter in command.params:
        kind = "option" if any(each.startswith("-") for each in parameter.opts) else "argument"
        yield f"{name} {kind} {' '.join([*parameter.opts, *parameter.secondary_opts])}"
    for below, each in getattr(command, "commands", {}).items():
        yield from options(each, f"{name} {below}")


def test_the_options_equal_the_committed_list() -> None:
    """A new option is a decision: write it into options.txt, where a reader of the change sees it."""
    found = list(options(typer.main.get_command(command_line()), "flickbook"))
    assert found == OPTIONS.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"], ["models", "--help"], []])
def test_help_starts_with_the_usage_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert out.strip().startswith("Usage: flickbook")
    assert err == ""


def test_help_is_the_same_with_and_without_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["--help", "jobs"]):
        assert run(words) == 0
    whole, *others = capsys.readouterr().out.split("Usage: ")[1:]
    assert [each.strip() for each in others] == 2 * [whole.strip()]


def test_help_loads_no_library() -> None:
    program = "import sys; from flickbook.cli.app import run; run(['--help'])\n"
    program += "print({'pydantic', 'numpy', 'torch', 'asyncio', 'tomllib'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.stdout.endswith("\nset()\n")


def test_shell_completion_lists_the_options_of_a_command() -> None:
    line = {"_FLICKBOOK_COMPLETE": "complete_bash", "COMP_WORDS": "flickbook jobs reorder --pri", "COMP_CWORD": "3"}
    program = [sys.executable, "-m", "flickbook"]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=120, env={**os.environ, **line})
    assert ran.stdout.split() == ["--priority"]


def test_every_option_has_a_help_text() -> None:
    def check(command: Any) -> None:
        assert command.help
        assert [each.name for each in command.params if not each.help] == []
        for below in getattr(command, "commands", {}).values():
            check(below)

    check(typer.main.get_command(command_line()))


def test_version_is_printed(command: Any) -> None:
    ran = command("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"flickbook {flickbook.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["generate", "x", "--num-frames", "many"], "num_frames"),
        (["generate", "x", "--colour", "red"], None),
        (["generate"], "prompt"),
        (["paint"], None),
        (["models", "show"], "name"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    words: list[str], field: str | None, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert run([*words, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)["error"]
    assert (document["code"], document["field"]) == ("usage", field)


def test_a_refusal_is_one_line_and_exit_code_2(command: Any) -> None:
    ran = command("generate", "a red circle", "--num-frames", "999")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr == "error: --num-frames 999: must be 1 to 256; ask for 256 frames or fewer\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generate", "x", "--size", "1280x720"],
            "--size 1280x720: builtin makes 128x128; make 128x128 and add --upscale",
        ),
        (["generate", "x", "--size=1280"], "--size 1280: must be WIDTHxHEIGHT in pixels"),
        (["generate", " "], "PROMPT: is empty; describe the film"),
        (["sequence", "x", "--drift", "2"], "--drift 2.0: must be 0 to 1"),
        (["batch", "films.txt"], "FILE films.txt: must end in .csv"),
        (["serve", "--auth", "me"], "--auth me: has no password"),
        (["generate", "x", "--model", "bultin"], "--model bultin: no such model"),
        (["generate", "x", "-q"], "No such option: -q. See `flickbook generate --help`."),
        (["keys", "create"], "Missing option '--name'. See `flickbook keys create --help`."),
    ],
)
def test_a_refusal_names_the_field_as_the_command_line_does(
    words: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_value_that_no_option_set_keeps_the_name_of_its_setting(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLICKBOOK_MODEL", "bultin")
    assert run(["generate", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: model=bultin: no such model")


def test_a_refusal_is_one_json_document(command: Any) -> None:
    ran = command("generate", "a red circle", "--model", "bultin", "--json")
    assert ran.returncode == 2
    document = json.loads(ran.stdout)
    assert list(document) == ["error"]
    assert (document["error"]["code"], document["error"]["field"]) == ("model_not_found", "model")
    assert "did you mean builtin?" in document["error"]["message"]


def test_an_invalid_setting_is_refused_first(work: Path, command: Any) -> None:
    (work / "flickbook.toml").write_text("threads = 0\n")
    ran = command("generate", "x")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: threads=0: ")


def test_words_after_two_dashes_are_the_prompt(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    assert run(["generate", "--num-frames", "999", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""
