"""`flickbook jobs`, `draft` and `finish`: nothing that was begun is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import flickbook
from flickbook.cli.app import run
from flickbook.media.inspect import read_recipe
from flickbook.media.read import read_any

PROMPT = "a red circle moving left on a blue background"
SHORT = ["--num-frames", "4", "--num-inference-steps", "4", "--seed", "7"]
ID = re.compile(r"job_[0-9a-z]{26}")


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["jobs", "list", "--json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["jobs"]
    return found


def killed(work: Path, sign: int, *words: str) -> None:
    """A `generate` that is ended by a signal once its state has been kept."""
    jobs = Path(os.environ["XDG_DATA_HOME"]) / "flickbook" / "jobs"
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    command = [sys.executable, "-m", "flickbook", "generate", PROMPT, *words]
    restore_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, cwd=work, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("encode"):
                until(lambda: process.poll() is not None or list(jobs.glob("*/*/checkpoint.safetensors")))
                process.send_signal(sign)
        process.wait()


def test_an_empty_list_is_announced(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "list"]) == 0
    output = capsys.readouterr()
    assert output.out == "" and "there are no jobs yet" in output.err


@pytest.mark.model
def test_generate_stores_a_completed_job(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4"]) == 0
    (job,) = listed(capsys)
    assert (job["state"], job["home"], job["progress"], job["attempt"]) == ("completed", "command", 1.0, 1)
    assert job["path"] == str(work / "a.mp4") and job["plan"]["seed"] == 7
    assert run(["jobs", "show", job["id"]]) == 0
    shown = capsys.readouterr().out
    assert "completed" in shown and PROMPT in shown and str(work / "a.mp4") in shown
    assert run(["jobs", "watch", job["id"]]) == 0
    assert capsys.readouterr().out == f"{work / 'a.mp4'}\n"
    assert run(["jobs", "list", "--state", "failed"]) == 0
    for wish in ("pause", "cancel", "retry"):
        assert run(["jobs", wish, job["id"]]) == 2
        assert "is completed and cannot be" in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.slow
def test_ctrl_c_leaves_a_paused_job_that_resumes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--num-inference-steps", "40", "--num-frames", "8", "--seed", "3"]
    killed(work, signal.SIGINT, *steps, "--output", "a.mp4")
    assert not (work / "a.mp4").exists()
    (job,) = listed(capsys)
    assert job["state"] == "paused" and 0 < job["progress"] < 1
    assert run(["jobs", "resume", job["id"]]) == 0
    assert capsys.readouterr().out == f"{work / 'a.mp4'}\n"
    assert run(["generate", PROMPT, *steps, "--output", "b.mp4"]) == 0
    assert (work / "a.mp4").read_bytes() == (work / "b.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.model
def test_a_killed_command_leaves_a_job_that_resumes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--num-inference-steps", "40", "--num-frames", "8", "--seed", "4"]
    killed(work, signal.SIGKILL, *steps, "--output", "a.mp4")
    (job,) = listed(capsys)
    assert job["state"] == "paused" and not (work / "a.mp4").exists()
    assert run(["generate", PROMPT, *SHORT, "--output", "later.mp4"]) == 0
    assert [each["state"] for each in listed(capsys)] == ["paused", "completed"], "paused jobs come first"
    assert run(["jobs", "list"]) == 0
    hint = f"`flickbook jobs resume {job['id']}` continues, `flickbook jobs cancel {job['id']}` discards"
    assert hint in capsys.readouterr().err
    assert run(["jobs", "resume", job["id"], "--json"]) == 0
    (film,) = json.loads(capsys.readouterr().out)["films"]
    assert any("resumed from step" in note for note in film["run"]["notes"])
    assert run(["generate", PROMPT, *steps, "--output", "b.mp4"]) == 0
    assert (work / "a.mp4").read_bytes() == (work / "b.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.model
def test_a_failing_film_is_a_failed_job(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4"]) == 0
    first = listed(capsys)[0]["id"]
    assert run(["jobs", "logs", first]) == 0
    capsys.readouterr()
    assert run(["jobs", "show", "job_" + "0" * 26]) == 2
    assert "no such job" in capsys.readouterr().err
    assert run(["jobs", "list", "--state", "lost"]) == 2
    assert "no such state" in capsys.readouterr().err


@pytest.mark.model
def test_jobs_can_use_another_store(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4"]) == 0
    assert len(listed(capsys)) == 1
    assert listed(capsys, "--store", f"sqlite:///{work}/other.db") == []
    assert run(["jobs", "list", "--store", "postgres://x"]) == 2


@pytest.mark.model
def test_a_damaged_store_does_not_prevent_a_film(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "bad.db").write_bytes(b"nothing that a database is made of" * 1000)
    monkeypatch.setenv("FLICKBOOK_STORE", f"sqlite:///{work}/bad.db")
    assert run(["generate", PROMPT, *SHORT, "--output", "a.mp4"]) == 0
    output = capsys.readouterr()
    assert output.out == "a.mp4\n" and "not stored as a job" in output.err
    assert (work / "bad.db").read_bytes().startswith(b"nothing that")


@pytest.mark.slow
@pytest.mark.model
def test_chosen_drafts_are_finished(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seeds", "2", "--until", "0.5", "--seed", "5", "--num-frames", "4", "--num-inference-steps", "4"]
    assert run(["draft", PROMPT, *options, "--sheet", "drafts.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and (work / "drafts.png").exists()
    ids = [ID.search(line)[0] for line in lines]  # type: ignore[index]
    assert "seed 5" in lines[0] and "seed 6" in lines[1]
    assert len(read_any(lines[0].split()[-1])[0]) == 4
    assert run(["finish", *ids, "--output", "film.mp4"]) == 0
    assert capsys.readouterr().out.splitlines() == ["film-1.mp4", "film-2.mp4"]
    assert run(["generate", PROMPT, "--seed", "6", *options[6:], "--output", "whole.mp4"]) == 0
    finished, whole = read_recipe(work / "film-2.mp4"), read_recipe(work / "whole.mp4")
    assert finished.frames_sha256 == whole.frames_sha256
    # A draft is finished once more, in another format.
    assert run(["finish", ids[1], "--output", "film.gif"]) == 0
    film = listed(capsys)[0]["id"]
    assert run(["finish", film]) == 2
    assert "cannot be finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "field"), [(["--until", "0"], "until"), (["--until", "1"], "until"), (["--seeds", "0"], "seeds")]
)
def test_invalid_draft_options_are_refused(
    work: Path, capsys: pytest.CaptureFixture[str], options: list[str], field: str
) -> None:
    assert run(["draft", PROMPT, *options]) == 2
    assert f"error: --{field} " in capsys.readouterr().err
    assert list(work.iterdir()) == []


@pytest.mark.model
def test_a_sequence_of_the_service_is_shown_and_retried(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flickbook.jobs.backend import Backend
    from flickbook.jobs.create import sequenced
    from flickbook.jobs.workers.worker import Worker
    from flickbook.spec import Request

    with Backend.at() as backend:
        job = sequenced(["a red circle", "a blue square"], Request.of(prompt="", num_inference_steps=1), frames_per=2)
        (job,) = backend.ask(backend.queue.submit([job]))
        assert run(["jobs", "pause", job.id]) == 0 and run(["jobs", "resume", job.id]) == 0
        assert run(["jobs", "cancel", job.id]) == 0 and run(["jobs", "retry", job.id]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{job.id}  queued"
        assert Worker(backend).work(1) == 1
    assert run(["jobs", "list"]) == 0
    listed = capsys.readouterr().out
    assert "sequence" in listed and "a red circle → a blue square" in listed and "completed" in listed
    assert run(["jobs", "show", job.id]) == 0
    shown = capsys.readouterr().out
    assert "a red circle → a blue square" in shown and "4 frames" in shown and "film-1.mp4" in shown
