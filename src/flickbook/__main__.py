"""`python -m flickbook` and the command `flickbook`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import Final, NoReturn

#: New objects after which Python looks for garbage. While libraries are loaded there is none, and Python's own number,
#: 700, makes it look 500 times before the first step of a film: 0.2 s.
_OBJECTS: Final = 100_000


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(_OBJECTS)
    try:
        from flickbook.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the command line itself is still being imported
        code = 130
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process. To take torch's memory apart piece by piece takes half a second, and nobody needs it done."""
    if "torch" not in sys.modules or threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # its reader went away
                stream.flush()
    except OSError:  # what Python itself makes of output that cannot be written in the end
        code = 120
    os._exit(code)


if __name__ == "__main__":
    main()
