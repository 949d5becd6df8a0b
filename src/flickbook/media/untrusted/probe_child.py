"""The child process that reads untrusted files for `probe.py`: `python -m flickbook.media.untrusted.probe_child`.

It reads one request per line from standard input, and answers on standard output with JSON lines, each followed by the
number of bytes that it announces. Before each request it lowers its own limits: address space, CPU time, file size,
open files. It exits when standard input closes, so it never outlives its parent.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from flickbook.errors import MediaError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Idle seconds after which the child exits, and the number of files that it may have open.
_IDLE: Final = 60.0
_FILES: Final = 64
_NICENESS: Final = 5

Task = Callable[..., Iterator[Any]]


def tasks() -> dict[str, Task]:
    """Return all tasks by name. A task yields parts (arrays, bytes or JSON), of which the last is its answer."""
    from flickbook.media.untrusted import decode, decode_sound, metadata, still

    return {
        "clip_facts": decode.clip_facts_task,
        "facts": decode.facts_task,
        "frames": decode.frames_task,
        "last": still.last,
        "metadata": metadata.metadata,
        "middle": still.middle,
        "picture": decode.picture_task,
        "sheet": still.sheet,
        "size": metadata.size,
        "sound": decode_sound.sound_task,
        "sound_facts": decode_sound.sound_facts_task,
        "thumbnail": still.thumbnail,
        "video": decode.video_task,
    }


class _Answers:
    """Writes messages to the pipe, which is hidden from libraries that print."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def send(self, value: Any, *, answer: bool) -> None:
        data = b""
        if hasattr(value, "tobytes"):
            value, data = {"shape": value.shape}, value.tobytes()
        elif isinstance(value, bytes):
            value, data = None, value
        line = json.dumps({"answer": answer, "value": value, "bytes": len(data)})
        self._file.write(line.encode("ascii") + b"\n")
        self._file.write(data)
        self._file.flush()


class Limiter:
    """The resource limits of this process, relative to its usage while idle."""

    def __init__(self) -> None:
        self._mapped = 0
        with suppress(OSError, AttributeError):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            self._mapped = pages * os.sysconf("SC_PAGE_SIZE")

    def permanent(self) -> None:
        """Set the permanent limits: no core dumps, no growing files, few open files, a low CPU priority."""
        with suppress(OSError, AttributeError):
            os.nice(_NICENESS)
        if resource is not None:
            _limit(resource.RLIMIT_CORE, 0)
            _limit(resource.RLIMIT_FSIZE, 0)
            _limit(resource.RLIMIT_NOFILE, _FILES)

    def request(self, memory_mib: int, cpu_seconds: int) -> None:
        """Set the soft limits of one request."""
        if resource is None:
            return
        _limit(resource.RLIMIT_AS, self._mapped + (memory_mib << 20), soft=True)
        # The system counts whole seconds.
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + cpu_seconds, soft=True)


def _limit(which: int, value: int, soft: bool = False) -> None:
    hard = resource.getrlimit(which)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):  # macOS maps more memory than the limit allows
        resource.setrlimit(which, (least, hard if soft else least))


def main() -> None:
    """Answer requests until standard input closes."""
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), name="requests", daemon=True).start()
    known = tasks()
    limiter = Limiter()
    limiter.permanent()
    while True:
        try:
            request = json.loads(requests.get(timeout=_IDLE))
        except queue.Empty:
            os._exit(0)
        limiter.request(request["memory_mib"], request["cpu_seconds"])
        try:
            _run(known[request["task"]], request, answers)
        except BrokenPipeError:
            os._exit(0)


def _read(requests: queue.SimpleQueue[bytes]) -> None:
    """Read requests from standard input. It closes when the parent exits."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _run(task: Task, request: dict[str, Any], answers: _Answers) -> None:
    last: Any = None
    started = False
    try:
        for part in task(request["path"], **request["arguments"]):
            if started:
                answers.send(last, answer=False)
            last, started = part, True
    except (MediaError, MemoryError) as error:
        last = {"refused": _refusal(error, request["memory_mib"])}
    answers.send(last, answer=True)


def _refusal(error: MediaError | MemoryError, memory_mib: int) -> tuple[str, str]:
    """Return the reason and the remedy; if memory ran out, the memory limit."""
    cause = error.__cause__ or error.__context__
    full = isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM
    if isinstance(error, MemoryError) or full:
        return f"needs more than {memory_mib} MiB of memory to read", "make it shorter or smaller, or export it again"
    return error.reason, error.remedy


if __name__ == "__main__":
    main()
