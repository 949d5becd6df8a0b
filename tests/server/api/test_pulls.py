"""Models fetched over HTTP by a true service, from a hub on loopback that stalls, breaks and comes back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.loopback_hub import Hub
from tests.patience import PATIENCE
from tests.server.live import live

import flickbook
from flickbook import catalogue
from flickbook.catalogue import find
from flickbook.hub.add import describe

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
Progress = dict[str, Any]


@pytest.fixture
def online(hub: Hub, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub with the built-in model as a repository, and two names for it on this machine's list."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    home = find("builtin").path()
    names = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    hub.repos["somebody/tiny"] = {name: (home / name).read_bytes() for name in names}
    for name, repo in (("tiny", "somebody/tiny"), ("lost", "somebody/lost")):
        catalogue.add(describe(name, repo, "builtin"))
    return hub


@contextmanager
def serving(data: Path, workers: int = 0) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """`flickbook serve` as a process, which reads its environment anew, and a client of it."""
    words = [sys.executable, "-m", "flickbook", "serve", "--port", "0", "--workers", str(workers)]
    env = os.environ | {"PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    with (data.parent / "stderr").open("w+") as output:
        process = subprocess.Popen(words, env=env, stderr=output, text=True)
        try:
            wait(lambda: "serving at" in (data.parent / "stderr").read_text() or process.poll() is not None)
            found = re.search(r"serving at (\S+)", (data.parent / "stderr").read_text())
            assert found, (data.parent / "stderr").read_text()
            with httpx2.Client(base_url=found[1], timeout=PATIENCE, trust_env=False) as client:
                yield process, client
        finally:
            process.kill()
            process.wait()


def wait(ready: Callable[[], Any]) -> None:
    until = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.05)


def pull(client: httpx2.Client, name: str = "tiny", status: int = 202) -> Progress:
    response = client.post(f"/api/v1/models/{name}/pull")
    assert response.status_code == status, response.text
    found: Progress = response.json()
    return found


def progress_of(client: httpx2.Client, name: str = "tiny") -> Progress:
    found: Progress = client.get(f"/api/v1/models/{name}/pull").json()
    return found


def ended(client: httpx2.Client, name: str = "tiny") -> Progress:
    wait(lambda: progress_of(client, name)["state"] != "pulling")
    return progress_of(client, name)


def fetching(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a service has started."""
    return psutil.Process(process.pid).children()


@pytest.mark.slow
def test_a_model_is_downloaded_while_the_service_responds(online: Hub, data: Path) -> None:
    with serving(data) as (process, client):
        assert progress_of(client) == {"state": "absent", "bytes": 0, "total": None, "error": None}
        assert not client.get("/api/v1/models/tiny").json()["here"]
        assert pull(client)["state"] in ("pulling", "done")
        found = ended(client)
        large = sum(len(each) for name, each in online.repos["somebody/tiny"].items() if name.endswith(".safetensors"))
        assert found == {"state": "done", "bytes": large, "total": large, "error": None}
        assert client.get("/api/v1/models/tiny").json()["here"] and fetching(process) == []
        count = len(online.requests)
        assert pull(client) == found and len(online.requests) == count
        assert not [each.path for each in psutil.Process(process.pid).memory_maps() if "libtorch" in each.path]


@pytest.mark.slow
def test_a_download_stops_with_the_service_and_continues_after_a_restart(
    online: Hub, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "50")
    online.stall_after[WEIGHTS] = 12_000_000
    with serving(data) as (process, client):
        assert pull(client)["state"] == "pulling"
        wait(lambda: progress_of(client)["bytes"] > 10_000_000)
        assert pull(client)["state"] == "pulling" and progress_of(client)["total"] > 12_000_000
        (child,) = fetching(process)
        refused = client.post("/api/v1/models/lost/pull")
        assert (refused.status_code, refused.json()["error"]["field"]) == (429, "model")
        assert int(refused.headers["retry-after"]) > 0 and "tiny" in refused.json()["error"]["message"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0 and not child.is_running()
    with serving(data) as (_, client):
        assert progress_of(client)["state"] == "absent"
        pull(client)
        assert ended(client)["state"] == "done"
    assert online.sent(WEIGHTS)[0] == "" and online.sent(WEIGHTS)[1].startswith("bytes=1")


@pytest.mark.slow
def test_a_download_ends_when_the_service_is_killed(online: Hub, data: Path) -> None:
    online.stall_after[WEIGHTS] = 1 << 20
    with serving(data) as (process, client):
        pull(client)
        assert online.stalled.wait(60)
        (child,) = fetching(process)
        process.kill()
        process.wait()
        wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
def test_a_failed_download_reports_its_error_and_can_be_repeated(online: Hub, data: Path) -> None:
    with serving(data) as (_, client):
        pull(client, "lost")
        found = ended(client, "lost")
        assert found["state"] == "failed" and "somebody/lost: no such repository" in found["error"]
        online.repos["somebody/lost"] = online.repos["somebody/tiny"]
        online.corrupt.add(WEIGHTS)
        pull(client, "lost")
        assert "SHA-256" in ended(client, "lost")["error"]
        online.corrupt.clear()
        assert pull(client, "lost")["error"] is None
        assert ended(client, "lost")["state"] == "done"


def test_pull_of_an_installed_an_unknown_and_a_forbidden_model(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        assert service.post("/api/v1/models/builtin/pull").json()["state"] == "done"
        for verb in ("GET", "POST"):
            assert httpx2.request(verb, f"{service.url}/api/v1/models/nothing/pull").status_code == 404
        _, low = service.key("low", "read", "create")
        assert service.post("/api/v1/models/builtin/pull", headers=low).status_code == 403
        assert service.get("/api/v1/models/builtin/pull", headers=low).json()["state"] == "done"
