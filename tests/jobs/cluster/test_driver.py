"""Workers on a Ray cluster of three machines, which are processes here; one of them is lost while it makes a film."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from tests.jobs.conftest import Small
from tests.patience import until
from tests.store import mongo_server

import flickbook
from flickbook.errors import RequestError
from flickbook.jobs.backend import Backend
from flickbook.jobs.cluster.driver import connected, has_gpus
from flickbook.jobs.cluster.requirements import check_shared
from flickbook.jobs.workers.roster import Roster

SOURCE = Path(flickbook.__file__).parents[1]
MEMORY = 100 << 20


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The head of a cluster, which runs no workers, and two machines with one GPU each in name."""
    variables = {
        "HOME": str(tmp_path),  # Ray writes below it
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a-token-for-this-test-of-a-cluster",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SOURCE),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY},
    )
    for _ in range(2):
        found.add_node(num_cpus=1, num_gpus=1, object_store_memory=MEMORY)
    yield found
    found.shutdown()


@pytest.mark.slow
def test_a_job_survives_the_loss_of_its_machine(
    cluster: Any, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mongo"
    place.mkdir()
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    with mongo_server.running(place) as server:
        store, storage = server.url(), str(tmp_path / "storage")
        words = ["--address", cluster.address, "--most", "2", "--lease", "3", "--beat", "0.5"]
        driver = subprocess.Popen(
            [sys.executable, "-m", "flickbook.jobs.cluster.driver", *words],
            env={**os.environ, "FLICKBOOK_STORE": store, "FLICKBOOK_ARTIFACTS": storage},
            stdin=subprocess.PIPE,
        )
        try:
            with Backend.at(store, tmp_path / "here", storage) as backend:
                # Notes of workers that died with all others must not stand in the way of new ones.
                for name in ("dead-1", "dead-2"):
                    note = Roster(backend.store).publish(name, 7, models=[], memory=0, load={}, free=0.0, installed=[])
                    backend.ask(note)
                jobs = backend.ask(backend.queue.submit([small(seed, num_inference_steps=60) for seed in (1, 1)]))
                lost = until(lambda: next((job.id for job in _jobs(backend, jobs) if job.reached > 0.2), None))
                machine = _machine_of(cluster, backend.ask(backend.queue.job(lost)).worker)
                cluster.remove_node(machine, allow_graceful=False)
                until(lambda: all(job.state == "completed" for job in _jobs(backend, jobs)))
                done = _jobs(backend, jobs)
                assert max(job.attempt for job in done if job.id == lost) == 2
                films = {
                    job.result.sidecar.recipe.frames_sha256 for job in done if job.result and job.result.sidecar.recipe
                }
                assert len(films) == 1, "the film that was interrupted equals the other one"
        finally:
            assert driver.stdin is not None
            driver.stdin.close()
            assert driver.wait(60) == 0


def _jobs(backend: Backend, jobs: Any) -> list[Any]:
    return [backend.ask(backend.queue.job(job.id)) for job in jobs]


def _machine_of(cluster: Any, worker: str) -> Any:
    """The machine on which the process of a worker runs."""
    parents = {process.pid for process in psutil.Process(int(worker.split(":")[1])).parents()}
    for node in cluster.worker_nodes:
        raylets = [each.process.pid for each in node.all_processes["raylet"]]
        if parents & set(raylets):
            return node
    raise AssertionError(f"{worker} runs on no machine of the cluster")


def test_machines_need_a_store_and_storage_that_they_can_share() -> None:
    with pytest.raises(RequestError, match="cannot share a file"):
        check_shared("sqlite:///jobs.db", "s3://films")
    with pytest.raises(RequestError, match="add --artifacts"):
        check_shared("mongodb://host/films", "")
    check_shared("mongodb://host/films", "s3://films")


@pytest.mark.parametrize(
    ("now", "autoscaler", "found"),
    [
        ({"CPU": 4.0, "GPU": 1.0}, None, True),
        ({"CPU": 4.0}, None, False),
        ({"CPU": 4.0}, {"CPU": 9, "GPU": 0}, False),
        ({"CPU": 4.0}, {"CPU": 9, "GPU": 8}, True),
        ({"memory": 9.0}, None, True),  # a head that waits for its machines
    ],
)
def test_workers_run_on_gpus_that_the_autoscaler_has_not_added_yet(
    now: dict[str, float], autoscaler: dict[str, int] | None, found: bool
) -> None:
    state = SimpleNamespace(get_max_resources_from_cluster_config=lambda: autoscaler)
    private = SimpleNamespace(state=SimpleNamespace(state=state))
    assert has_gpus(SimpleNamespace(cluster_resources=lambda: now, _private=private)) is found


def test_a_cluster_without_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(RequestError, match="RAY_AUTH_MODE=disabled"):
        connected("auto")
