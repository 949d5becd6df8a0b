"""The other end of a nursery: processes are forked, listened to, killed, and none is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.crash.made import Twin

ROOT = Path(__file__).parents[2]
#: What a killed process may leave unread in the pipe is far less.
_READ = 1 << 16


def environment(place: Path) -> dict[str, str]:
    """One thread, everything below `place`, and no setting of the person who runs it."""
    own = {"OMP_NUM_THREADS": "1", "FLICKBOOK_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    own |= {"FLICKBOOK_DATA_DIR": str(place / "data"), "FLICKBOOK_CACHE_DIR": str(place / "cache")}
    own |= {"XDG_CONFIG_HOME": str(place / "config")}
    return {name: value for name, value in os.environ.items() if not name.startswith("FLICKBOOK_")} | own


@dataclass(frozen=True)
class Said:
    """What a process said: its name, a word, a job and its attempt (or step), and when (monotonic seconds)."""

    name: str
    word: str
    job: str
    attempt: int
    at: float


class Ward:
    """A nursery's processes. `warm` is "model" or "server"; all its files are in `place`. A context manager."""

    def __init__(self, place: Path, warm: str = "model") -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self.fifo, self.twins = str(place / "pipe"), dict[str, Twin]()
        os.mkfifo(self.fifo)
        # Both ends, so that it never ends.
        self._pipe, self._rest = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK), b""
        self._heard = deque[Said]()
        self._log = open(place / "log.txt", "ab")  # noqa: SIM115
        self.environment = environment(place)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery", warm, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.environment,
            cwd=place,
            start_new_session=True,
            text=True,
        )
        self.living: dict[str, int] = {}
        self.twins = {key: Twin(*found) for key, found in self._answer().items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.living.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._pipe)
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self.log())
        return json.loads(line)

    def _ask(self, **asked: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def fork(self, role: str, name: str, **told: Any) -> int:
        """A new process; its number."""
        if role in ("worker", "holder", "submitter"):
            told |= {"fifo": self.fifo, "name": name}
        pid = int(self._ask(do="fork", role=role, told=told)["pid"])
        self.living[name] = pid
        return pid

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process that was not reaped yet."""
        os.kill(self.living[name], number)

    def reap(self, name: str) -> int:
        """Wait until a process has ended; its exit code, negative for a signal."""
        return int(self._ask(do="reap", pid=self.living.pop(name))["code"])

    def ended(self, name: str) -> int | None:
        """The exit code of a process that ended by itself; None while it lives."""
        code = self._ask(do="poll", pid=self.living[name])["code"]
        if code is not None:
            del self.living[name]
        return code if code is None else int(code)

    def log(self) -> str:
        """The end of what processes wrote to stderr."""
        return (self.place / "log.txt").read_text(encoding="utf-8", errors="replace")[-4000:]

    def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self.reap(name)

    def said(self, seconds: float) -> list[Said]:
        """What was said since the last call; waits at most so many seconds for something."""
        if not self._heard and select.select([self._pipe], [], [], max(0.0, seconds))[0]:
            with suppress(BlockingIOError):
                while part := os.read(self._pipe, _READ):
                    self._rest += part
            *lines, self._rest = self._rest.split(b"\n")
            self._heard.extend(map(_parsed, lines))
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def until(self, seconds: float) -> Iterator[Said]:
        """What is said in the next seconds, one after the other; what is not asked for stays to be heard."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._heard.extend(self.said(min(left, 0.25)))
            while self._heard:
                yield self._heard.popleft()


def _parsed(line: bytes) -> Said:
    name, word, job, attempt, at = line.decode("ascii").split(" ")
    return Said(name, word, job, int(attempt), float(at))
