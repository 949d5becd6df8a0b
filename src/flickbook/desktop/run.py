"""The window as a process: opened, shown until it is closed, and left in good order."""

from __future__ import annotations

import gc
import signal
import tkinter
from collections.abc import Callable
from typing import Final

from flickbook.desktop.source import Source
from flickbook.desktop.window import TITLE, Window
from flickbook.errors import WindowError

#: Milliseconds between two times that what nobody needs any more is freed.
_TIDY: Final = 5000


def opened() -> tkinter.Tk:
    """A root window. Raises WindowError where there is no display."""
    try:
        return tkinter.Tk(className=TITLE)
    except tkinter.TclError as error:
        remedy = "run it in a desktop session, or use `flickbook studio` or `flickbook generate` here"
        raise WindowError(f"cannot be opened ({error})", remedy) from None


def _tidying(root: tkinter.Tk) -> None:
    """Have what belongs to Tk freed in Tk's own thread alone, as Tk insists on it, and not where Python is."""
    gc.collect()
    gc.freeze()  # what was imported stays, and need not be looked through again
    gc.disable()

    def tidy() -> None:
        gc.collect()
        root.after(_TIDY, tidy)

    root.after(_TIDY, tidy)


def run(source: Source, local: Callable[[], Source]) -> None:
    """Show the window until it is closed; `local` makes the source of this computer. Raises WindowError."""
    window = Window(opened(), source, local)
    _tidying(window.root)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, window.hang_up)
    try:
        window.root.mainloop()
    finally:
        # Where the window was torn from the screen, nobody has closed it yet.
        window.source.close()
