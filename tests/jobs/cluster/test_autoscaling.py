"""Ray's autoscaler adds machines for queued jobs and removes them when nothing is left to do.

The machines are processes here, which Ray's provider for tests starts. `ray.cluster_utils.AutoscalingCluster` is not
used: it reads a file that Ray's package lacks, and it ends every Ray process of the computer.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from tests.jobs.cluster.test_driver import MEMORY, SOURCE
from tests.jobs.conftest import Small
from tests.patience import until
from tests.store import mongo_server

from flickbook.jobs.backend import Backend

#: What Ray calls the head of such a cluster, and its type.
HEAD, HEAD_TYPE = "f" * 56, "ray.head.default"
Scaling = tuple[str, Callable[[], int]]
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def config(address: str) -> dict[str, Any]:
    """Up to two machines with one GPU each in name; those that are idle for 6 s are removed."""
    nothing: list[str] = []
    steps = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    gpu = {"resources": {"CPU": 1, "GPU": 1, "object_store_memory": MEMORY}, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "max_workers": 0}
    types = {name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in (("gpu", gpu), (HEAD_TYPE, head))}
    provider = {"type": "external", "module": PROVIDER, "launch_multiple": True, "head_node_id": HEAD}
    return {
        "cluster_name": "test",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "provider": {**provider, "gcs_address": address},
        "auth": {"ssh_user": "nobody"},
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: nothing for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{step}_commands": nothing for step in steps},
    }


@pytest.fixture
def scaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scaling]:
    """The address of a cluster of a head alone with an autoscaler, and a function that counts its machines."""
    mark = uuid.uuid4().hex
    variables = {
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a-token-for-this-test-of-a-cluster",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SOURCE),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    from ray._private.services import get_node_ip_address

    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = f"{get_node_ip_address()}:{port}"
    (tmp_path / "config.json").write_text(json.dumps(config(address)))
    own = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "FLICKBOOK_TEST": mark,
    }
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as place:  # a socket's path must be short
        words = ["start", "--head", "--block", f"--port={port}", f"--temp-dir={place}", "--num-cpus=0"]
        words += [f"--autoscaling-config={tmp_path}/config.json", f"--object-store-memory={MEMORY}"]
        words += ["--include-dashboard=false", "--disable-usage-stats"]
        with (tmp_path / "head").open("wb") as log:
            program = str(Path(sys.executable).parent / "ray")
            process = subprocess.Popen([program, *words], env=os.environ | own, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or b"terminated by a signal" in (tmp_path / "head").read_bytes())
            assert process.poll() is None, (tmp_path / "head").read_text()
            # Each machine has one raylet, and so has the head.
            yield address, lambda: sum(each.name() == "raylet" for each in processes(mark)) - 1
        finally:
            for each in list(processes(mark)):
                with suppress(psutil.Error):
                    each.kill()
            process.wait()


@pytest.mark.slow
def test_queued_jobs_add_machines_and_idle_ones_are_removed(
    scaling: Scaling, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, machines = scaling
    (tmp_path / "mongo").mkdir()
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    with mongo_server.running(tmp_path / "mongo") as server:
        store, storage = server.url(), str(tmp_path / "storage")
        words = ["--address", address, "--most", "2", "--beat", "0.5", "--idle", "3"]
        with (tmp_path / "driver").open("wb") as log:
            driver = subprocess.Popen(
                [sys.executable, "-m", "flickbook.jobs.cluster.driver", *words],
                env={**os.environ, "FLICKBOOK_STORE": store, "FLICKBOOK_ARTIFACTS": storage},
                stdin=subprocess.PIPE,
                stderr=log,
            )
        try:
            with Backend.at(store, tmp_path / "here", storage) as backend:
                assert machines() == 0
                jobs = backend.ask(backend.queue.submit([small(seed, num_inference_steps=40) for seed in range(6)]))
                until(lambda: machines() == 2)
                until(lambda: all(state(backend, job.id) == "completed" for job in jobs), 0.2)
                # One worker stays, so that the next film begins at once.
                until(lambda: machines() == 1)
        finally:
            assert driver.stdin is not None
            driver.stdin.close()
            assert driver.wait(60) == 0, (tmp_path / "driver").read_text()


def state(backend: Backend, id: str) -> str:
    return backend.ask(backend.queue.job(id)).state


def processes(mark: str) -> Iterator[psutil.Process]:
    """The processes of a cluster, by a variable of their environment."""
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.status() != psutil.STATUS_ZOMBIE and each.environ().get("FLICKBOOK_TEST") == mark:
                yield each
