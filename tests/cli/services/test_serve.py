"""`flickbook serve` as a process: it says where it is, keeps strangers out, and ends in good order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.patience import PATIENCE, until

import flickbook

SOURCE = Path(flickbook.__file__).parents[1]
Serving = Callable[..., AbstractContextManager[tuple["subprocess.Popen[str]", str, list[str]]]]


@pytest.fixture
def serving(work: Path, data: Path) -> Serving:
    """Run `flickbook serve` on a free port, and wait until it says where it is."""

    @contextmanager
    def serve(*words: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
        command = [sys.executable, "-m", "flickbook", "serve", "--port", "0", *words]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        process = subprocess.Popen(command, env=environment, cwd=work, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        lines: list[str] = []
        try:
            while not (found := re.search(r"serving at (http://\S+) ", lines[-1] if lines else "")):
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
            yield process, found[1], lines
        finally:
            process.kill()
            lines += process.stderr.readlines()
            process.wait()

    return serve


def gone(number: int) -> bool:
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_the_server_loads_no_torch_uses_little_memory_and_exits_cleanly(serving: Serving) -> None:
    with serving("--workers", "0") as (process, url, lines):
        assert len(lines) == 1
        assert httpx2.get(f"{url}/readyz").json()["ready"]
        assert httpx2.get(f"{url}/api/v1/jobs").status_code == 200
        answer = httpx2.post(f"{url}/api/v1/jobs", json={"prompt": "a red circle"})
        assert answer.status_code < 300 and "server" not in answer.headers
        seen = psutil.Process(process.pid)
        assert not [each.path for each in seen.memory_maps() if "libtorch" in each.path]
        assert seen.memory_info().rss < 250 << 20
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/healthz")


@pytest.mark.slow
def test_workers_start_and_end_with_the_server(serving: Serving) -> None:
    with serving("--workers", "1") as (process, url, _):
        ready = httpx2.get(f"{url}/readyz").json()
        assert ready["workers"] == {"wanted": 1, "alive": 1}
        (worker,) = (each.pid for each in psutil.Process(process.pid).children())
        process.kill()
        process.wait()
        until(lambda: gone(worker))


@pytest.mark.slow
def test_on_sigterm_the_workers_stop_first(serving: Serving) -> None:
    with serving("--workers", "1") as (process, _, lines):
        (worker,) = (each.pid for each in psutil.Process(process.pid).children())
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert not psutil.pid_exists(worker)
    assert lines[1:] == ["stopped\n"]


@pytest.mark.slow
def test_listening_on_all_addresses_needs_a_key(serving: Serving, command: Any) -> None:
    refused = command("serve", "--host", "0.0.0.0", "--port", "0", "--workers", "0")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "flickbook keys create --name NAME" in refused.stderr
    token = command("keys", "create", "--name", "laptop").stdout.strip()
    with serving("--host", "0.0.0.0", "--workers", "0") as (_, url, _):
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{here}/api/v1/jobs").status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        assert httpx2.get(f"{here}/api/v1/jobs", headers=headers).status_code == 200
        assert command("keys", "revoke", token[3:13]).returncode == 0
        until(lambda: httpx2.get(f"{here}/api/v1/jobs", headers=headers).status_code == 401)
    # A key that is over opens no door.
    assert command("serve", "--host", "0.0.0.0", "--port", "0", "--workers", "0").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "soon"], "--keep soon: "),
        (["--max-disk", "much"], "--max-disk much: "),
        (["--origin", "films.example"], "--origin films.example: "),
        (["--origin", "https://a.b/path"], "--origin https://a.b/path: "),
        (["--store", "ftp://x"], "--store "),
        (["--host", "no-such-host.invalid"], "--host no-such-host.invalid: "),
        (["--cluster", "head:6379"], "--store a file: machines of a cluster cannot share a file"),
        (["--cluster", "head:6379", "--store", "mongodb://h/films"], "--artifacts: machines of a cluster need storage"),
        (["--artifacts", "nothing://place"], "--artifacts nothing://place: "),
    ],
)
def test_a_refusal_is_one_line(words: list[str], message: str, command: Any) -> None:
    ran = command("serve", "--port", "0", "--workers", "0", *words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: {message}") and ran.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_port_in_use_is_reported(command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = command("serve", "--port", str(taken.getsockname()[1]), "--workers", "0")
    assert ran.returncode == 2 and "choose another with --port" in ran.stderr


@pytest.mark.slow
def test_json_logs_have_one_line_per_request_and_no_secret(serving: Serving) -> None:
    with serving("--workers", "0", "--json-logs") as (process, url, lines):
        id = f"job_{'0' * 26}"
        headers = {"x-request-id": "mine", "authorization": "Bearer fb_secret"}
        httpx2.get(f"{url}/api/v1/jobs/{id}?signature=secret", headers=headers)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    records = [json.loads(line) for line in lines if line.startswith("{")]
    (line,) = (each for each in records if each.get("status"))
    expected = {"request_id": "mine", "job_id": id, "method": "GET", "status": 404, "client": "127.0.0.1"}
    assert expected.items() <= line.items()
    assert "secret" not in "".join(lines)
