"""Pool of child processes that read untrusted files under limits of memory, CPU time, open files and wall-clock time.

A file from a client is never decoded in the server process or in a worker. `ask` and `stream` send it to a child
(`flickbook.media.untrusted.probe_child`), which answers over a pipe. Children start on demand, are reused, and are
replaced after `REQUESTS` requests, after a minute without one, and after a failure. If a child exceeds a limit, only
the child dies: the caller gets a MediaError that names the limit.

On operating systems without `resource` limits (Windows), only the wall-clock limit and the header checks apply.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from flickbook.errors import LimitReached, MediaError
from flickbook.media.write import FilePath
from flickbook.settings import inherited

#: Children at once, and callers that may wait for one.
CHILDREN: Final = 2
WAITING: Final = 46
#: Requests after which a child is replaced, so that memory leaks in libraries do not accumulate.
REQUESTS: Final = 200
#: Longest line of an answer: a comment has at most 1 MiB, and JSON may escape one byte as six.
_MAX_LINE: Final = 16 << 20
#: Most bytes after a line: one image of the largest supported size.
_MAX_BYTES: Final = 256 << 20
_RETRY_AFTER: Final = 2.0
#: Disable thread pools and memory arenas per CPU in libraries.
_SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Budget:
    """The limits of one request: MiB of memory beyond an idle child, seconds of CPU time and of wall-clock time."""

    memory_mib: int
    cpu_seconds: int
    seconds: int


#: For metadata, where at most one frame of a video is decoded.
PROBE: Final = Budget(memory_mib=512, cpu_seconds=10, seconds=60)
#: For an image, or the last frame of a video.
IMAGE: Final = Budget(memory_mib=1024, cpu_seconds=120, seconds=600)
#: For frames. `Limits` bounds their number, and the receiver holds them.
DECODE: Final = Budget(memory_mib=1024, cpu_seconds=600, seconds=3600)


@dataclass(frozen=True)
class Message:
    """One message of a child: a part of the answer, or the answer, which is the last. `data` holds what JSON cannot."""

    answer: bool
    value: Any
    data: bytearray


class _Child:
    """One process and its pipes. Used by one thread at a time."""

    def __init__(self) -> None:
        self.served = 0
        #: Whether the last request was answered completely, so that the child can be reused.
        self.completed = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flickbook.media.untrusted.probe_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=inherited(**_SINGLE),
        )

    def send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode("utf-8") + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Message | None:
        """Return the next message; None if the child has exited."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            return None
        try:
            head = json.loads(line)
            answer, value, size = bool(head["answer"]), head["value"], int(head["bytes"])
        except (ValueError, TypeError, LookupError):
            return None
        if not 0 <= size <= _MAX_BYTES:
            return None
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < len(data):
            count = self.process.stdout.readinto(view[at:])  # type: ignore[attr-defined]
            if not count:
                return None
            at += count
        return Message(answer, value, data)

    def end(self) -> int:
        """Kill the child if it still runs. Returns its exit status as subprocess reports it."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.kill()
        return self.process.wait()

    def ended(self) -> int:
        """Return the exit status of a child whose pipe has closed."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return self.end()


class Pool:
    """A pool of at most `children` processes. At most `waiting` callers wait for one; more are refused."""

    def __init__(self, children: int = CHILDREN, waiting: int = WAITING) -> None:
        self._free = threading.Semaphore(children)
        self._places = threading.BoundedSemaphore(children + waiting)
        self._limit = children + waiting
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._closed = False

    def stream(self, task: str, path: FilePath, budget: Budget, **arguments: Any) -> Generator[Message, None, None]:
        """Yield the messages of a child that runs `task` (a name in `probe_child.tasks()`) on the file at `path`.

        Blocks while no child is free. Raises MediaError if the task refuses the file, or if the child exceeds its
        budget or crashes; LimitReached if too many callers wait or no process can be started.
        """
        name = os.fspath(path)
        request = {"task": task, "path": os.path.abspath(name), "arguments": arguments, **asdict(budget)}
        if not self._places.acquire(blocking=False):
            limit = f"{self._limit} files are being read already"
            raise LimitReached("file", os.path.basename(name), limit, "send it again in a moment", _RETRY_AFTER)
        try:
            with self._free:
                yield from self._served(request, name, budget)
        finally:
            self._places.release()

    def _served(self, request: dict[str, Any], path: str, budget: Budget) -> Generator[Message, None, None]:
        for fresh in (False, True):
            with self._child(fresh) as child:
                message = None
                with _deadline(child, budget.seconds) as late, suppress(BrokenPipeError):
                    child.send(request)
                    while (message := child.receive()) is not None and not message.answer:
                        fresh = True  # messages were received, so the task cannot be retried
                        yield message
                child.completed = message is not None
                if message is not None:
                    if isinstance(message.value, dict) and "refused" in message.value:
                        raise MediaError(path, *message.value["refused"])
                    yield message
                    return
                status = child.ended()
                # An idle child exits by itself, possibly just when a request is sent.
                if status != 0 or late.is_set() or fresh:
                    raise MediaError(path, *_why(status, late.is_set(), budget))

    @contextmanager
    def _child(self, fresh: bool) -> Iterator[_Child]:
        """Yield a child for one request. Afterwards it is reused if it has answered, and killed otherwise."""
        with self._lock:
            while self._idle and (fresh or self._idle[-1].process.poll() is not None):
                self._drop(self._idle.pop())
            try:
                child = self._idle.pop() if self._idle else _Child()
            except OSError as error:
                limit = f"no process can be started to read files ({error.strerror})"
                raise LimitReached("file", "", limit, "send it again in a moment", _RETRY_AFTER) from error
            self._all.add(child)
        child.completed = False
        try:
            yield child
        finally:
            child.served += 1
            with self._lock:
                if child.completed and child.served < REQUESTS and not self._closed:
                    self._idle.append(child)
                else:
                    self._drop(child)

    def _drop(self, child: _Child) -> None:
        self._all.discard(child)
        child.end()

    def close(self) -> None:
        """Kill every child."""
        with self._lock:
            self._closed = True
            for child in list(self._all):
                child.process.kill()
            while self._idle:
                self._drop(self._idle.pop())


@contextmanager
def _deadline(child: _Child, seconds: float) -> Iterator[threading.Event]:
    """Kill the child after `seconds`; the event is set if that happened."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        child.process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _why(status: int, late: bool, budget: Budget) -> tuple[str, str]:
    """Return the reason and the remedy for a file whose child died."""
    smaller = "make it shorter or smaller, or export it again"
    if late:
        return f"needs more than {budget.seconds} seconds to read", smaller
    if hasattr(signal, "SIGXCPU") and status == -signal.SIGXCPU:
        return f"needs more than {budget.cpu_seconds} seconds of processor time to read", smaller
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"ends the process that reads it ({how})", "convert it to PNG or JPEG, or a film to H.264 MP4"


@cache
def pool() -> Pool:
    """Return the pool of this process."""
    made = Pool()
    atexit.register(made.close)
    return made


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a pipe has one reader


def ask(task: str, path: FilePath, budget: Budget = PROBE, **arguments: Any) -> Message:
    """Return the answer of a task that sends a single message. Raises what `Pool.stream` raises."""
    *_, last = pool().stream(task, path, budget, **arguments)
    return last


def stream(task: str, path: FilePath, budget: Budget = DECODE, **arguments: Any) -> Generator[Message, None, None]:
    """Yield the messages of a task, as `Pool.stream` does. Close it if it is not read to its end."""
    return pool().stream(task, path, budget, **arguments)
