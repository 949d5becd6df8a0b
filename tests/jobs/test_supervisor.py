"""Worker processes under a supervisor: a killed one's film goes on, and they leave when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.cases import CASES
from tests.contract.matrix import asked, ready
from tests.jobs.conftest import Moving, Small
from tests.patience import until

from flickbook.engine import sequence
from flickbook.engine.films import films
from flickbook.jobs.desk import Desk
from flickbook.jobs.order import ordered
from flickbook.jobs.shelf import CHECKPOINT
from flickbook.jobs.supervisor import Supervisor
from flickbook.store.base import DONE, Job


def state(desk: Desk, job: Job) -> str:
    return desk.ask(desk.queue.job(job.id)).state


def reached(desk: Desk, job: Job, share: float) -> bool:
    return state(desk, job) == "running" and desk.shelf.progress(job.id).get("fraction", 0) >= share


def frames_of(job: Job) -> str:
    recipe = next(films([job.plan])).recipe
    assert recipe is not None
    return recipe.frames_sha256


def made(desk: Desk, job: Job) -> str:
    found = desk.ask(desk.queue.job(job.id))
    assert found.result is not None and found.result.sidecar.recipe is not None, found.error
    return found.result.sidecar.recipe.frames_sha256


@pytest.fixture
def supervisor(tmp_path: Path, desk: Desk) -> Iterator[Supervisor]:
    """One worker process on the desk's store, with a short lease."""
    found = Supervisor(f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs", 1, ["--lease", "3", "--beat", "0.5"])
    found.start()
    yield found
    found.stop()


def test_a_killed_workers_film_goes_on_to_the_same_pixels(desk: Desk, small: Small, supervisor: Supervisor) -> None:
    (job,) = desk.ask(desk.queue.submit([small(num_frames=8, num_inference_steps=40)]))
    until(lambda: reached(desk, job, 0.3))
    (process,) = supervisor.processes
    os.kill(process, signal.SIGKILL)
    until(lambda: state(desk, job) in DONE)
    found = desk.ask(desk.queue.job(job.id))
    assert (found.state, found.attempt) == ("completed", 2)
    assert made(desk, job) == frames_of(job)
    assert "killed by SIGKILL" in desk.shelf.read_log(job.id)
    assert sorted(path.name for path in desk.shelf.of(job.id).glob("film-*")) == ["film-2.mp4", "film-2.mp4.json"]


def test_a_killed_workers_film_of_a_pipeline_is_resumed(
    desk: Desk, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny Wan of diffusers: its worker is killed while it denoises, and the next one continues after that step."""
    case = next(case for case in CASES if case.build == "wan")
    with ready(case) as model:
        # The first checkpoint is written after a second: a short film of a tiny network would be finished before.
        request = asked(case, model, "text", tmp_path, num_inference_steps=50, num_frames=97)
        (job,) = desk.ask(desk.queue.submit([ordered(request)]))
        until(lambda: any(desk.shelf.root.rglob(CHECKPOINT)))
        (process,) = supervisor.processes
        os.kill(process, signal.SIGKILL)
        until(lambda: state(desk, job) in DONE)
        found = desk.ask(desk.queue.job(job.id))
        assert (found.state, found.attempt) == ("completed", 2), found.error
        assert found.result is not None and found.result.sidecar.run is not None
        assert any("went on from step" in note for note in found.result.sidecar.run.notes)
        assert made(desk, job) == frames_of(job)


def test_a_killed_workers_sequence_goes_on_to_the_same_pixels(
    desk: Desk, moving: Moving, supervisor: Supervisor
) -> None:
    (job,) = desk.ask(desk.queue.submit([moving(frames_per=8, num_inference_steps=4)]))
    until(lambda: (desk.shelf.pictures(job.id) / "00002.png").exists())
    (process,) = supervisor.processes
    os.kill(process, signal.SIGKILL)
    until(lambda: state(desk, job) in DONE)
    found = desk.ask(desk.queue.job(job.id))
    assert (found.state, found.attempt) == ("completed", 2) and found.result is not None
    recipe, run = sequence.made(job.plan).recipe, found.result.sidecar.run
    assert recipe is not None and made(desk, job) == recipe.frames_sha256
    assert run is not None and any("were there already" in note for note in run.notes)
    assert not desk.shelf.pictures(job.id).exists()


def test_a_worker_that_is_told_to_leave_lays_its_film_down(desk: Desk, small: Small, supervisor: Supervisor) -> None:
    (job,) = desk.ask(desk.queue.submit([small(num_frames=16, num_inference_steps=60)]))
    until(lambda: reached(desk, job, 0.1))
    supervisor.stop()
    found = desk.ask(desk.queue.job(job.id))
    assert (found.state, found.stalls, found.lease_until) == ("queued", 0, 0.0)
    assert supervisor.processes == [] and desk.shelf.checkpoint(job.id).exists()


def test_workers_die_with_whoever_started_them(tmp_path: Path, desk: Desk, small: Small) -> None:
    program = (
        "import sys, time; from pathlib import Path; from flickbook.jobs.supervisor import Supervisor\n"
        "s = Supervisor(sys.argv[1], Path(sys.argv[2])); s.start(); print(*s.processes, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/jobs.db", str(tmp_path / "jobs")]
    (job,) = desk.ask(desk.queue.submit([small(num_frames=16, num_inference_steps=80)]))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        until(lambda: reached(desk, job, 0.05))
        parent.kill()
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert state(desk, job) == "queued"


def test_a_job_that_kills_its_workers_fails_alone(desk: Desk, small: Small, supervisor: Supervisor) -> None:
    """A film that never gets anywhere, because whoever takes it dies: the next one is made all the same."""
    bad, good = desk.ask(desk.queue.submit([small(num_frames=16, num_inference_steps=100), small(2)]))
    for attempt in (1, 2, 3):
        until(lambda attempt=attempt: (f := desk.ask(desk.queue.job(bad.id))).attempt == attempt and bool(f.worker))  # type: ignore[misc]
        for process in supervisor.processes:
            os.kill(process, signal.SIGSEGV)
        until(lambda: state(desk, bad) != "running")
    found = desk.ask(desk.queue.job(bad.id))
    assert (found.state, found.error_code) == ("failed", "worker_lost") and "SIGSEGV" in found.error
    until(lambda: state(desk, good) == "completed")
