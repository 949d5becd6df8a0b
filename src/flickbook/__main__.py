"""Entry point of `python -m flickbook` and of the command `flickbook`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import Final, NoReturn

#: Allocations between two runs of the garbage collector. Imports create no garbage, and with Python's default of 700
#: the collector runs 500 times before the first step of a film, which takes 0.2 s.
_OBJECTS: Final = 100_000


def main() -> NoReturn:
    """Run the command line and exit with its exit code."""
    gc.set_threshold(_OBJECTS)
    try:
        from flickbook.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # during the import of the command line itself
        code = 130
    leave(code)


def leave(code: int) -> NoReturn:
    """Exit the process without freeing torch's memory piece by piece, which takes half a second and has no effect."""
    if "torch" not in sys.modules or threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # None if its reader has exited
                stream.flush()
    except OSError:  # the exit code that Python itself uses if output cannot be flushed
        code = 120
    os._exit(code)


if __name__ == "__main__":
    main()
