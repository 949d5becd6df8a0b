"""One model's files fetched by a process of its own, for a program that goes on meanwhile.

`python -m flickbook.hub.fetching NAME` tells on standard output, a JSON object a line: `bytes` of `total`, and last, if
it could not be done, `error`. It leaves when its standard input ends, so that it never outlives whoever started it; the
next one goes on from what has come.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Final

from flickbook import catalogue
from flickbook.errors import FlickbookError, one_line
from flickbook.hub.fetch import fetch

#: Seconds between two lines, and until a process that is to leave, and waits for the network, is gone.
_TELL: Final = 0.2
_PATIENCE: Final = 3.0


class _Telling:
    """Says how far it is, but not with every piece; from a thread, so that all that came is told when no more comes."""

    def __init__(self) -> None:
        self._now = self._said = (0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)

    def __enter__(self) -> _Telling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, done: int, total: int) -> None:
        self._now = (done, total)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_TELL)
            now = self._now
            if now != self._said:
                _say(bytes=now[0], total=now[1])
                self._said = now


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)


def main(name: str) -> int:
    """Fetch a model by its name in the catalogue; the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    threading.Thread(target=_until_the_end, name="parent", daemon=True).start()
    try:
        with _Telling() as telling:
            fetch(catalogue.find(name), telling)
    except KeyboardInterrupt:
        return 130
    except FlickbookError as error:
        _say(error=str(error))
        return error.exit_code
    except Exception as error:
        _say(error=one_line(f"unexpected {type(error).__name__}: {error}"))
        return 1
    return 0


def _until_the_end() -> None:
    """Wait until whoever started this process is gone, and leave nothing half-written."""
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(_PATIENCE)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
