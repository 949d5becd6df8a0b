"""Eight files at once that are heavy to inspect: the service answers everybody else meanwhile, and stays small."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from tests.crash.server_kill import port_of
from tests.crash.ward import environment
from tests.media.bombs import chunk
from tests.media.hostile import harmless, matroska_bombs

_AT_ONCE: Final = 8
_PATIENCE: Final = 120.0
#: What is promised: seconds until any other request is answered, and MiB that the server's process ever takes.
LATENCY: Final = 1.0
MEMORY: Final = 300
_PAUSE: Final = 0.01
_BOUNDARY: Final = "flickbook-inspections"
_HEIGHT: Final = 50_000_000
_ROWS: Final = 100_000


@dataclass
class Outcome:
    """What was seen; latencies in seconds, memory in MiB."""

    faults: list[str] = field(default_factory=list)
    tried: int = 0
    statuses: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    server_mib: int = 0
    together_mib: int = 0


def tall_picture() -> bytes:
    """A PNG of 1 x 50,000,000 pixels in 97 kB."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(2 * _ROWS)) for _ in range(_HEIGHT // _ROWS)) + packer.flush()
    header = (1).to_bytes(4, "big") + _HEIGHT.to_bytes(4, "big") + bytes((1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND")


def heavy_files() -> dict[str, bytes]:
    """Eight files of different kinds that take long to walk."""
    found = matroska_bombs() | harmless() | {"tall.png": tall_picture()}
    names = ("tall.png", "segments.mkv", "void.mkv", "blocks.mkv", "laces.mkv", "frames.gif", "frames.apng")
    return {name: found[name] for name in (*names, "times.apng")}


def run(place: Path, rounds: int = 2) -> Outcome:
    """Inspect the PNG eight times at once, then eight different files at once, `rounds` times over."""
    place.mkdir(parents=True)
    outcome, files = Outcome(), heavy_files()
    with _service(place) as (process, port):
        _get(port)
        for _ in range(rounds):
            for sent in ({f"{number}-tall.png": files["tall.png"] for number in range(_AT_ONCE)}, files):
                _together(process, port, sent, outcome)
        outcome.server_mib = _peak(process.pid)
    if max(outcome.latencies) >= LATENCY:
        outcome.faults.append(f"a request waited {max(outcome.latencies):.2f} s, more than {LATENCY:.0f} s")
    if outcome.server_mib >= MEMORY:
        outcome.faults.append(f"the server took {outcome.server_mib} MiB, more than {MEMORY} MiB")
    return outcome


@contextmanager
def _service(place: Path) -> Iterator[tuple[psutil.Process, int]]:
    command = [sys.executable, "-m", "flickbook", "serve", "--port", "0", "--workers", "1"]
    said = place / "serve.txt"
    with open(said, "wb") as file:
        started = subprocess.Popen(
            command, stderr=file, cwd=place, env=environment(place), start_new_session=True, stdin=subprocess.DEVNULL
        )
    try:
        yield psutil.Process(started.pid), port_of(said, time.monotonic() + _PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _together(process: psutil.Process, port: int, files: Mapping[str, bytes], outcome: Outcome) -> None:
    """Send all files at once, and ask something else again and again until each has its answer."""
    answers: list[tuple[str, int, bytes]] = []

    def send(name: str, data: bytes) -> None:
        try:
            answers.append((name, *_inspect(port, data)))
        except OSError as error:
            answers.append((name, 0, str(error).encode()))

    threads = [threading.Thread(target=send, args=each) for each in files.items()]
    for thread in threads:
        thread.start()
    while True:
        over = not any(thread.is_alive() for thread in threads)
        outcome.latencies.append(_get(port))
        outcome.together_mib = max(outcome.together_mib, _now(process))
        if over:
            break
        time.sleep(_PAUSE)
    outcome.tried += len(files)
    for name, status, body in answers:
        outcome.statuses.append(status)
        refused = json.loads(body)["error"]["message"] if status == 400 else ""
        if status not in (200, 400, 429) or "\n" in refused:
            outcome.faults.append(f"{name} was answered with {status}: {body[:200]!r}")


def _inspect(port: int, data: bytes) -> tuple[int, bytes]:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="film"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        link.request(
            "POST",
            "/api/v1/recipes/inspect",
            body,
            {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
        )
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def _get(port: int) -> float:
    """Seconds until a request that reads the store is answered."""
    began = time.monotonic()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        link.request("GET", "/api/v1/jobs")
        if (answer := link.getresponse()).status != 200:
            raise RuntimeError(f"the service answers with {answer.status}: {answer.read()!r}")
        answer.read()
    finally:
        link.close()
    return time.monotonic() - began


def _peak(pid: int) -> int:
    """MiB that a process has taken at most."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) >> 10


def _now(process: psutil.Process) -> int:
    """MiB that the server and its readers take now; what they share is counted once."""
    total = process.memory_full_info().pss
    for child in process.children():
        with suppress(psutil.Error):
            if "flickbook.media.untrusted.probe_child" in child.cmdline():
                total += child.memory_full_info().pss
    return int(total) >> 20
