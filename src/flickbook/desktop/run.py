"""Opens the window, runs it until it is closed, and cleans up."""

from __future__ import annotations

import gc
import signal
import tkinter
from collections.abc import Callable
from typing import Final

from flickbook.desktop.sources.source import Source
from flickbook.desktop.window import TITLE, Window
from flickbook.errors import WindowError

#: Milliseconds between two garbage collections.
_TIDY: Final = 5000


def opened() -> tkinter.Tk:
    """Creates the root window. Raises WindowError if there is no display."""
    try:
        return tkinter.Tk(className=TITLE)
    except tkinter.TclError as error:
        remedy = "run it in a desktop session, or use `flickbook studio` or `flickbook generate` here"
        raise WindowError(f"cannot be opened ({error})", remedy) from None


def _tidying(root: tkinter.Tk) -> None:
    """Runs the garbage collector in Tk's thread only, as Tk objects must not be freed in other threads."""
    gc.collect()
    gc.freeze()  # objects of imported modules stay, and need not be scanned again
    gc.disable()

    def tidy() -> None:
        gc.collect()
        root.after(_TIDY, tidy)

    root.after(_TIDY, tidy)


def run(source: Source, local: Callable[[], Source]) -> None:
    """Shows the window until it is closed; `local` creates the local source. Raises WindowError."""
    window = Window(opened(), source, local)
    _tidying(window.root)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, window.hang_up)
    try:
        window.root.mainloop()
    finally:
        # If the window was destroyed by the system, its source is still open.
        window.source.close()
