"""Commands whose model is not on this machine: on a terminal, in a pipe, without a network."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import SOURCE, Command
from tests.loopback_hub import Hub

from flickbook import catalogue
from flickbook.catalogue import find
from flickbook.cli.app import run
from flickbook.hub.add import describe
from flickbook.jobs.backend import Backend
from flickbook.store.base import new_id

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
FILM = ("a red circle", "--model", "tiny", "--num-frames", "2", "--num-inference-steps", "1", "--seed", "7")
#: Runs a command with what is typed; its exit code, and what it said on the terminal.
Terminal = Callable[..., tuple[int, str]]


@pytest.fixture
def tiny(hub: Hub, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The built-in model as a repository of a hub on loopback, on this machine's list as `tiny`."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    home = find("builtin").path()
    names = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    hub.repos["somebody/tiny"] = {name: (home / name).read_bytes() for name in names}
    model = describe("tiny", "somebody/tiny", "builtin")
    catalogue.add(model.model_copy(update={"download_gb": 3.4, "licence": "CC-BY-NC-4.0"}))
    return hub


@pytest.fixture
def terminal(work: Path) -> Terminal:
    """Run the command with a terminal for its input and its messages."""

    def typing(typed: bytes, *arguments: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1", "TERM": "dumb"}
        words = [sys.executable, "-m", "flickbook", *arguments]
        process = subprocess.Popen(
            words, cwd=work, env=environment, stdin=slave, stderr=slave, stdout=subprocess.PIPE, start_new_session=True
        )
        os.close(slave)
        late = threading.Timer(120, process.kill)
        late.start()
        output = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the last process has closed the terminal
                break
            before, output = output, output + piece
            if b"[y/N]" in output and b"[y/N]" not in before:
                os.write(master, typed)
            if not piece:
                break
        late.cancel()
        os.close(master)
        assert process.stdout is not None
        output += process.stdout.read()
        return process.wait(60), output.decode()

    return typing


@pytest.mark.slow
@pytest.mark.model
def test_a_terminal_asks_downloads_and_continues(tiny: Hub, terminal: Terminal, work: Path) -> None:
    code, output = terminal(b"y\n", "generate", *FILM, "--output", "a.mp4")
    assert code == 0, output
    assert "tiny is not on this machine yet: 3.4 GB, CC-BY-NC-4.0. 0.03 GB are left to download." in output
    assert "Download it now? [y/N]" in output and "pulling tiny: " in output and (work / "a.mp4").is_file()
    code, output = terminal(b"", "generate", *FILM, "--output", "b.mp4")
    assert code == 0 and "[y/N]" not in output


@pytest.mark.slow
@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"\x04"])
def test_answering_no_writes_nothing(tiny: Hub, terminal: Terminal, work: Path, tmp_path: Path, typed: bytes) -> None:
    code, output = terminal(typed, "generate", *FILM)
    assert code == 130 and output.rstrip().endswith("cancelled")
    assert list(work.iterdir()) == [] and not tiny.sent(WEIGHTS)
    assert not list((tmp_path / "hf").rglob("*.safetensors")) and not list((tmp_path / "data").rglob("*.db"))


@pytest.mark.slow
@pytest.mark.model
def test_a_pipe_refuses_unless_yes_is_given(tiny: Hub, command: Command, work: Path) -> None:
    done = command("generate", *FILM)
    assert done.returncode == 2 and done.stdout == "" and not tiny.requests and list(work.iterdir()) == []
    assert done.stderr == (
        "error: tiny is not on this machine yet: 3.4 GB, CC-BY-NC-4.0; run `flickbook models pull tiny`, or add --yes\n"
    )
    tiny.cut_after[WEIGHTS] = 12_000_000
    done = command("generate", *FILM, "--yes")
    assert done.returncode == 0 and (work / done.stdout.strip()).is_file()
    # After the line broke, the rest alone is asked for.
    assert tiny.sent(WEIGHTS)[0] == "" and tiny.sent(WEIGHTS)[-1].startswith("bytes=")


@pytest.mark.slow
def test_an_unreachable_hub_is_refused(tiny: Hub, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, output = terminal(b"y\n", "generate", *FILM)
    assert code == 2 and "[y/N]" not in output
    assert "tiny is not on this machine yet: 3.4 GB, CC-BY-NC-4.0; somebody/tiny: the network is switched off" in output


@pytest.mark.slow
def test_too_little_disk_space_is_refused_before_the_question(
    tiny: Hub, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository says that its largest file has more bytes than any disk."""
    tiny.sizes[WEIGHTS] = 10**18
    code, output = terminal(b"y\n", "generate", *FILM)
    assert code == 2 and "[y/N]" not in output and "needs 1000000000.0 GB and" in output and not tiny.sent(WEIGHTS)


@pytest.mark.model
@pytest.mark.slow
def test_every_command_that_makes_films_needs_the_model(
    tiny: Hub, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A film and a draft were made with files that lie elsewhere; without those each command names --yes."""
    quick = ("--model", "tiny", "--num-frames", "2", "--num-inference-steps", "2")
    there = ("--model-dir", str(find("builtin").path()))
    assert run(["generate", "a red circle", *quick, *there, "--output", "a.mp4"]) == 0
    assert run(["draft", "a red circle", *quick, *there, "--seeds", "1", "--until", "0.5"]) == 0
    draft = capsys.readouterr().out.splitlines()[-1].split()[0]
    with Backend.at() as backend:
        backend.ask(backend.store.change(draft, ("completed",), {"model_dir": ""}))
        paused = backend.ask(backend.queue.job(draft)).model_copy(
            update={"id": new_id("job"), "state": "paused", "home": "command", "output": str(work / "e.mp4")}
        )
        backend.ask(backend.store.add([paused]))
    (work / "films.csv").write_text("prompt\na red circle\n")
    for words in (
        ("draft", "a red circle", *quick),
        ("finish", draft, "--output", "b.mp4"),
        ("batch", "films.csv", *quick),
        ("sequence", "a red circle", "--model", "tiny", "--frames-per", "2", "--output", "c.mp4"),
        ("rerun", "a.mp4", "--output", "d.mp4"),
        ("reproduce", "a.mp4"),
        ("evaluate", "tiny"),
        ("jobs", "resume", paused.id),
    ):
        assert run(list(words)) == 2, words
        assert capsys.readouterr().err.endswith("or add --yes\n"), words
    assert sorted(path.name for path in work.iterdir()) == ["a.mp4", "a.mp4.json", "films.csv"]


@pytest.mark.slow
@pytest.mark.model
def test_pull_auto_downloads_without_asking(tiny: Hub, command: Command, work: Path) -> None:
    """Neither a command nor the library."""
    (work / "flickbook.toml").write_text('pull = "auto"\n')
    done = command("generate", *FILM, "--output", "a.mp4")
    assert done.returncode == 0, done.stderr
    assert "3.4 GB, CC-BY-NC-4.0" in done.stderr


@pytest.mark.slow
@pytest.mark.model
def test_the_library_refuses_unless_the_setting_is_auto(tiny: Hub, work: Path) -> None:
    program = "import flickbook; flickbook.generate('a red circle', model='tiny', num_frames=1, num_inference_steps=1)"

    def program_run(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), **more}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=work, capture_output=True, text=True
        )

    refused = program_run()
    assert refused.returncode == 1 and "run `flickbook models pull tiny`" in refused.stderr and not tiny.requests
    done = program_run(FLICKBOOK_PULL="auto")
    assert done.returncode == 0, done.stderr
