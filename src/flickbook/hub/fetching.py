"""Downloads one model in a child process, while the parent continues.

`python -m flickbook.hub.fetching NAME` prints JSON objects on standard output, one per line: `bytes` of `total`, and
on failure a last line with `error`. It exits when its standard input ends, so it never outlives its parent; the next
run continues the download.
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

#: Seconds between two lines, and the time that a process waiting for the network has to exit.
_INTERVAL: Final = 0.2
_PATIENCE: Final = 3.0


class _ProgressPrinter:
    """Prints progress at a limited rate, from a thread, so that the last value is printed when data stops arriving."""

    def __init__(self) -> None:
        self._latest = self._printed = (0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)

    def __enter__(self) -> _ProgressPrinter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, done: int, total: int) -> None:
        self._latest = (done, total)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_INTERVAL)
            now = self._latest
            if now != self._printed:
                _emit(bytes=now[0], total=now[1])
                self._printed = now


def _emit(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main(name: str) -> int:
    """Downloads a model of the catalogue by name; returns the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have ignored it
    threading.Thread(target=_until_the_end, name="parent", daemon=True).start()
    try:
        with _ProgressPrinter() as printer:
            fetch(catalogue.find(name), printer)
    except KeyboardInterrupt:
        return 130
    except FlickbookError as error:
        _emit(error=str(error))
        return error.exit_code
    except Exception as error:
        _emit(error=one_line(f"unexpected {type(error).__name__}: {error}"))
        return 1
    return 0


def _until_the_end() -> None:
    """Waits until the parent process is gone, then stops without leaving partial files."""
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
