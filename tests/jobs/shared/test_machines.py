"""Several machines as processes with directories of their own: two servers, two workers, one store, one storage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.jobs import held_worker
from tests.patience import PATIENCE, until
from tests.store import mongo_server

import flickbook
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.worker import _SHARED as LOOK

SOURCE = Path(flickbook.__file__).parents[1]
ROOT = Path(__file__).parents[3]
HTTP = httpx2.Client(timeout=PATIENCE)
FILM = {"prompt": "a red circle moving left on a blue background", "num_frames": 4, "num_inference_steps": 4}


class Machines:
    """Starts processes, each as a machine of its own."""

    def __init__(self, place: Path, store: str, artifacts: str) -> None:
        self._place, self.store, self._artifacts = place, store, artifacts
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str, *words: str) -> subprocess.Popen[str]:
        """A process whose data is in a directory of this name."""
        variables = {
            "FLICKBOOK_DATA_DIR": str(self._place / name),
            "FLICKBOOK_STORE": self.store,
            "FLICKBOOK_ARTIFACTS": self._artifacts,
            "PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT))),
        }
        (self._place / name).mkdir()
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._place / name,
        )
        self.processes.append(process)
        return process

    def server(self, name: str) -> tuple[subprocess.Popen[str], str]:
        """A service without workers, and its address."""
        process = self.start(name, "flickbook", "serve", "--port", "0", "--workers", "0")
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"serving at (http://\S+) ", line)
        assert found is not None, line
        return process, found[1]

    def worker(self, name: str, hold: int = 0) -> subprocess.Popen[str]:
        """A worker with a short lease; with `hold` one that stops after this step of its first job."""
        words = ("--name", name, "--lease", "3", "--beat", "0.5")
        if hold:
            return self.start(name, held_worker.MODULE, "--hold", str(hold), *words)
        return self.start(name, "flickbook.jobs.workers.worker", *words)


@pytest.fixture
def machines(tmp_path: Path, s3: str) -> Iterator[Machines]:
    with ExitStack() as stack:
        place = tmp_path / "mongo"
        place.mkdir()
        found = Machines(tmp_path, stack.enter_context(mongo_server.running(place)).url(), s3)
        yield found
        for process in found.processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_no_film_is_lost_with_a_worker_and_a_server(machines: Machines, tmp_path: Path) -> None:
    first, url = machines.server("server-1")
    _, other = machines.server("server-2")
    ids = [_queued(url, seed) for seed in range(3)]

    def jobs() -> list[dict[str, Any]]:
        return [HTTP.get(f"{other}/api/v1/jobs/{id}").json() for id in ids]

    def halfway() -> str | None:
        running = (job for job in jobs() if job["state"] == "running" and job["progress"])
        return next((job["id"] for job in running if job["progress"]["index"] == 2), None)

    held = machines.worker("worker-1", hold=2)
    lost = until(halfway)
    machines.worker("worker-2")
    until(lambda: any(job["state"] in ("running", "completed") for job in jobs() if job["id"] != lost))
    with Backend.at(machines.store, tmp_path / "here") as backend:
        assert backend.ask(backend.queue.job(lost)).worker == "worker-1"
    held.send_signal(signal.SIGKILL)
    first.send_signal(signal.SIGKILL)
    assert _queued(other, 0) == ids[0], "the other service knows the keys of the one that is gone"
    until(lambda: all(job["state"] == "completed" for job in jobs()), 0.2)
    assert [job["attempt"] for job in jobs() if job["id"] == lost] == [2]
    for id in ids:
        film = HTTP.get(f"{other}/api/v1/jobs/{id}/film")
        part = HTTP.get(f"{other}/api/v1/jobs/{id}/film", headers={"range": "bytes=100-199"})
        assert part.status_code == 206 and part.content == film.content[100:200]
        (tmp_path / f"{id}.mp4").write_bytes(film.content)
        assert reproduce(tmp_path / f"{id}.mp4").exit_code == 0


@pytest.mark.slow
def test_a_film_is_cancelled_from_another_machine_within_a_step(machines: Machines, tmp_path: Path) -> None:
    _, first = machines.server("server-1")
    _, other = machines.server("server-2")
    seen = tmp_path / "steps"
    words = ("tests.jobs.shared.observed_worker", str(seen), "--name", "worker", "--peers")
    machines.start("worker", *words)
    id = _queued(first, 1, num_inference_steps=100, num_frames=32)
    until(lambda: seen.exists() and seen.read_text().count("step") > 2)
    assert HTTP.post(f"{other}/api/v1/jobs/{id}/cancel").status_code == 200
    for url in (other, first):
        until(lambda url=url: HTTP.get(f"{url}/api/v1/jobs/{id}").json()["state"] == "cancelled")
    lines = seen.read_text().split()
    after = lines[lines.index("cancelled") + 1 :]
    assert after in ([], ["step"]), "a step that was being computed when the worker saw the request"
    assert LOOK <= 1.0, "a worker that shares its store looks for requests every second or more often"
    assert lines.count("step") < 100

    # Another service knows at once what a job is made from.
    made = HTTP.post(f"{first}/v1/videos/video_{id[4:]}/remix", json={"prompt": "a blue square"}).json()["id"]
    remix = HTTP.get(f"{other}/v1/videos/{made}").json()
    assert remix["remixed_from_video_id"] == f"video_{id[4:]}"


def _queued(url: str, seed: int, **fields: Any) -> str:
    """The id of a film that is sent under an Idempotency-Key of its own."""
    answer = HTTP.post(
        f"{url}/api/v1/jobs", json={**FILM, "seed": seed, **fields}, headers={"idempotency-key": f"film-{seed}"}
    )
    return str(answer.json()["id"])
