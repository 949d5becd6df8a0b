"""Workers on machines that have different models."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.jobs.conftest import Small
from tests.loopback_hub import Hub
from tests.patience import until
from tests.server.api.test_pulls import WEIGHTS, online

import flickbook
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers import models
from flickbook.jobs.workers.affinity import Affinity
from flickbook.jobs.workers.models import WAIT, installed, is_here, takes_missing
from flickbook.jobs.workers.roster import Roster
from flickbook.jobs.workers.worker import Worker
from flickbook.spec import PlannedShot
from flickbook.store.base import Job

__all__ = ["online"]


def absent(small: Small) -> Job:
    """A job whose model is in the catalogue and not on this machine."""
    job = small()
    return job.model_copy(update={"plan": job.plan.model_copy(update={"model": "tiny"})})


def test_a_film_of_shots_needs_all_of_its_models(small: Small) -> None:
    job = small()
    other = job.plan.model_copy(update={"model": "wan-2.1-1.3b"})
    shots = (PlannedShot(plan=job.plan), PlannedShot(plan=other))
    mixed = job.model_copy(update={"plan": job.plan.model_copy(update={"task": "shots", "shots": shots})})
    assert is_here(job) and not is_here(mixed)


def test_who_takes_a_job_whose_model_is_missing() -> None:
    assert not takes_missing(True, 10 * WAIT, False), "another machine has the model"
    assert not takes_missing(False, WAIT - 1, False), "a worker that has the model may be starting"
    assert takes_missing(False, WAIT, False), "it fails the job"
    assert takes_missing(False, 0.0, True), "it downloads the model"
    assert not takes_missing(True, WAIT - 1, True) and takes_missing(True, WAIT, True)


def test_a_job_is_left_to_a_machine_that_has_its_model(online: Hub, backend: Backend, small: Small) -> None:
    job = absent(small)
    assert "builtin" in installed() and "tiny" not in installed()
    roster, body = Roster(backend.store), {"models": [], "memory": 0, "load": {}, "free": 1e6}
    backend.ask(roster.publish("other", 1, **body, installed=["builtin", "tiny"]))
    with Affinity(backend, "here", fetches=True) as affinity:
        affinity.begin()
        assert not affinity.takes(job)
        assert affinity.takes(small()), "a model that is here"
    backend.ask(roster.drop("other"))
    with Affinity(backend, "here", fetches=True) as affinity:
        affinity.begin()
        assert affinity.takes(job), "nobody else has it, and it can be downloaded here"


def test_a_job_fails_with_the_machine_and_the_remedy_if_no_worker_has_its_model(
    online: Hub, backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "WAIT", 0.0)
    waiting, other = backend.ask(backend.queue.submit([absent(small), small()]))
    assert Worker(backend, "here", peers=True).work(2) == 2
    found = backend.ask(backend.queue.job(waiting.id))
    assert (found.state, found.error_code) == ("failed", "model_not_pulled")
    assert f"tiny is not on the worker's machine {socket.gethostname()} yet" in found.error
    assert "`flickbook models pull tiny` there, or set FLICKBOOK_PULL=auto" in found.error
    assert backend.ask(backend.queue.job(other.id)).state == "completed"


@pytest.mark.slow
@pytest.mark.model
def test_a_worker_without_a_service_downloads_the_model(
    online: Hub, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLICKBOOK_PULL", "auto")
    store, files = f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs"
    words = ["--store", store, "--jobs-dir", str(files), "--peers", "--fetch"]
    with Backend.at(store, files) as backend:
        (job,) = backend.ask(backend.queue.submit([absent(small)]))
        process = subprocess.Popen(
            [sys.executable, "-m", "flickbook.jobs.workers.worker", *words],
            env=os.environ | {"PYTHONPATH": str(Path(flickbook.__file__).parents[1])},
            stdin=subprocess.PIPE,
        )
        try:
            until(lambda: backend.ask(backend.queue.job(job.id)).state in ("completed", "failed"))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
        found = backend.ask(backend.queue.job(job.id))
        assert found.state == "completed" and found.attempt == 1, found.error
    assert online.sent(WEIGHTS)
