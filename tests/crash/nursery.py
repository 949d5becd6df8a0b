"""A process with everything imported and the model warm, which forks others: `python -m tests.crash.nursery`.

It reads a JSON object a line from its standard input and answers each with one. It has one thread, and neither a store
nor a file of a job open, so what it forks begins as a fresh process would, 20 ms later. Its children die with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer until standard input ends; then no child is left."""
    warm = sys.argv[1]
    made = _warm_server() if warm == "server" else _warm_model(Path(sys.argv[2]))
    print(json.dumps(made), flush=True)
    living: set[int] = set()
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "fork":
                pid = _fork(asked["role"], asked["told"])
                living.add(pid)
                print(json.dumps({"pid": pid}), flush=True)
            else:
                pid, status = os.waitpid(asked["pid"], 0 if asked["do"] == "reap" else os.WNOHANG)
                living.discard(pid)
                print(json.dumps({"code": os.waitstatus_to_exitcode(status) if pid else None}), flush=True)
    finally:
        for pid in living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _warm_model(place: Path) -> dict[str, Any]:
    """Load the model and make every film once; what they are, by their Plans' keys."""
    import torch
    from tests.crash import made, roles  # noqa: F401

    torch.set_num_threads(1)
    found = {}
    for job in made.templates():
        twin = made.twin(job, place)
        found[job.plan.key()] = [twin.frames, twin.file]
    return found


def _warm_server() -> dict[str, Any]:
    """Import the service and understand a request once; no model is loaded."""
    from tests.crash import made, roles  # noqa: F401

    import flickbook.server.run  # noqa: F401

    made.templates()
    return {}


def _fork(role: str, told: dict[str, Any]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(role, told)
    return pid


def _child(role: str, told: dict[str, Any]) -> NoReturn:
    from tests.crash.roles import ROLES

    code = 1
    try:
        # Whoever started it may be killed too.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        silence, log = os.open(os.devnull, os.O_RDWR), told.pop("log", "")
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if log else 2
        for number, handle in ((0, silence), (1, silence), (2, said)):
            os.dup2(handle, number)
        ROLES[role](**told)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
