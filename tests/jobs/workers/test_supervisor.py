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
from tests.contract.matrix import ready, request_of
from tests.jobs import held_worker
from tests.jobs.conftest import Moving, Small
from tests.patience import until

import flickbook
from flickbook.engine.films import films
from flickbook.engine.sequences import sequence
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.workers.supervisor import Supervisor
from flickbook.store.base import DONE, Job

SOURCE, ROOT = Path(flickbook.__file__).parents[1], Path(__file__).parents[3]
QUICK = ["--lease", "3", "--beat", "0.5"]


def state(backend: Backend, job: Job) -> str:
    return backend.ask(backend.queue.job(job.id)).state


def reached(backend: Backend, job: Job, share: float) -> bool:
    return state(backend, job) == "running" and backend.artifacts.progress(job.id).get("fraction", 0) >= share


def held(backend: Backend, job: Job, step: int) -> bool:
    """Whether a held worker has computed so many steps of a job, and waits."""
    progress = backend.artifacts.progress(job.id)
    return (progress.get("phase"), progress.get("index")) == ("denoise", step)


def frames_of(job: Job) -> str:
    recipe = next(films([job.plan])).recipe
    assert recipe is not None
    return recipe.frames_sha256


def made(backend: Backend, job: Job) -> str:
    found = backend.ask(backend.queue.job(job.id))
    assert found.result is not None and found.result.sidecar.recipe is not None, found.error
    return found.result.sidecar.recipe.frames_sha256


@pytest.fixture
def supervisor(tmp_path: Path, backend: Backend) -> Iterator[Supervisor]:
    """One worker process on the desk's store, with a short lease."""
    found = Supervisor(f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs", 1, QUICK)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def holding(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """The same, with a worker that stops after the third step of its first attempt at a job."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(SOURCE), str(ROOT))))
    words = [*QUICK, "--hold", "3"]
    found = Supervisor(f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs", 1, words, module=held_worker.MODULE)
    found.start()
    yield found
    found.stop()


@pytest.mark.slow
def test_the_film_of_a_killed_worker_resumes_to_the_same_pixels(
    backend: Backend, small: Small, holding: Supervisor
) -> None:
    (job,) = backend.ask(backend.queue.submit([small(num_inference_steps=6)]))
    until(lambda: held(backend, job, 3))
    (process,) = holding.processes
    os.kill(process, signal.SIGKILL)
    until(lambda: state(backend, job) in DONE)
    found = backend.ask(backend.queue.job(job.id))
    assert (found.state, found.attempt) == ("completed", 2)
    assert found.result is not None and found.result.sidecar.run is not None
    assert any("resumed from step 3 of 6" in note for note in found.result.sidecar.run.notes)
    assert made(backend, job) == frames_of(job)
    assert "killed by SIGKILL" in backend.artifacts.read_log(job.id)
    assert sorted(path.name for path in backend.artifacts.of(job.id).glob("film-*")) == [
        "film-2.mp4",
        "film-2.mp4.json",
        "film-2.safetensors",
    ]


@pytest.mark.slow
def test_the_pipeline_film_of_a_killed_worker_is_resumed(
    backend: Backend, holding: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny Wan of diffusers: its worker is killed while it denoises, and the next one continues after that step."""
    case = next(case for case in CASES if case.build == "wan")
    with ready(case) as model:
        request = request_of(case, model, "text", tmp_path, num_inference_steps=6)
        (job,) = backend.ask(backend.queue.submit([ordered(request)]))
        until(lambda: held(backend, job, 3))
        (process,) = holding.processes
        os.kill(process, signal.SIGKILL)
        until(lambda: state(backend, job) in DONE)
        found = backend.ask(backend.queue.job(job.id))
        assert (found.state, found.attempt) == ("completed", 2), found.error
        assert found.result is not None and found.result.sidecar.run is not None
        assert any("resumed from step 3 of 6" in note for note in found.result.sidecar.run.notes)
        assert made(backend, job) == frames_of(job)


@pytest.mark.slow
def test_the_sequence_of_a_killed_worker_resumes_to_the_same_pixels(
    backend: Backend, moving: Moving, holding: Supervisor
) -> None:
    (job,) = backend.ask(backend.queue.submit([moving(frames_per=2)]))
    until(lambda: held(backend, job, 3))
    assert [path.name for path in sorted(backend.artifacts.pictures(job.id).glob("0*.png"))][-1] == "00002.png"
    (process,) = holding.processes
    os.kill(process, signal.SIGKILL)
    until(lambda: state(backend, job) in DONE)
    found = backend.ask(backend.queue.job(job.id))
    assert (found.state, found.attempt) == ("completed", 2) and found.result is not None
    recipe, run = sequence.made(job.plan).recipe, found.result.sidecar.run
    assert recipe is not None and made(backend, job) == recipe.frames_sha256
    assert run is not None and any("existed already" in note for note in run.notes)
    assert not backend.artifacts.pictures(job.id).exists()


@pytest.mark.slow
def test_a_stopped_worker_releases_its_job_with_a_checkpoint(
    backend: Backend, small: Small, supervisor: Supervisor
) -> None:
    (job,) = backend.ask(backend.queue.submit([small(num_frames=16, num_inference_steps=60)]))
    until(lambda: reached(backend, job, 0.1))
    supervisor.stop()
    found = backend.ask(backend.queue.job(job.id))
    assert (found.state, found.stalls, found.lease_until) == ("queued", 0, 0.0)
    assert supervisor.processes == [] and backend.artifacts.checkpoint(job.id).exists()


@pytest.mark.slow
def test_workers_end_with_their_parent_process(tmp_path: Path, backend: Backend, small: Small) -> None:
    program = (
        "import sys, time; from pathlib import Path; from flickbook.jobs.workers.supervisor import Supervisor\n"
        "s = Supervisor(sys.argv[1], Path(sys.argv[2])); s.start(); print(*s.processes, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/jobs.db", str(tmp_path / "jobs")]
    (job,) = backend.ask(backend.queue.submit([small(num_frames=16, num_inference_steps=80)]))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        until(lambda: reached(backend, job, 0.05))
        parent.kill()
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert state(backend, job) == "queued"


@pytest.mark.slow
def test_a_job_that_kills_its_workers_fails_and_the_next_completes(
    backend: Backend, small: Small, supervisor: Supervisor
) -> None:
    """A film that never gets anywhere, because whoever takes it dies: the next one is made all the same."""
    bad, good = backend.ask(backend.queue.submit([small(num_frames=16, num_inference_steps=100), small(2)]))
    for attempt in (1, 2, 3):
        until(
            lambda attempt=attempt: (f := backend.ask(backend.queue.job(bad.id))).attempt == attempt and bool(f.worker)
        )  # type: ignore[misc]
        for process in supervisor.processes:
            os.kill(process, signal.SIGSEGV)
        until(lambda: state(backend, bad) != "running")
    found = backend.ask(backend.queue.job(bad.id))
    assert (found.state, found.error_code) == ("failed", "worker_lost") and "SIGSEGV" in found.error
    until(lambda: state(backend, good) == "completed")
