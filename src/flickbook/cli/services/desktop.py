"""`flickbook desktop`: opens a window to make films, watch their previews, and play them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli import console
from flickbook.cli.services.options import Store
from flickbook.errors import WindowError

#: How to install Tk, by the package that could not be imported.
_TK = "on Debian or Ubuntu: `sudo apt install python3-tk`; on a Mac: `brew install python-tk`"


def desktop(
    url: Annotated[
        str | None, typer.Option("--url", help="Flickbook service to use instead of this machine: http://HOST:8000.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="API key of the service, or a file that contains it; FLICKBOOK_KEY is safer."),
    ] = None,
    store: Store = "",
) -> None:
    """Open a window to make, watch and save films."""
    from flickbook import settings

    chosen = settings.load(url=url, key=None if key is None else _key(key), store=store or None)
    console.start(chosen.log_level)
    try:
        from PIL import ImageTk  # noqa: F401

        from flickbook.desktop.run import run
    except ImportError as error:
        raise WindowError(f"Python has no {error.name or 'tkinter'} here", _TK) from None
    from flickbook.desktop.sources.local import Local
    from flickbook.desktop.sources.remote import Remote

    def local() -> Local:
        return Local(chosen.store)

    run(Remote(chosen.url, chosen.key.get_secret_value()) if chosen.url else local(), local)


def _key(text: str) -> str:
    """Return an API key, or the content of the file of that name: command lines are visible to other users."""
    path = Path(text).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return text
