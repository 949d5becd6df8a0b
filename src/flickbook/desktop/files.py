"""File actions of the window: saving a copy of a film and opening its folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from flickbook.desktop.sources.source import Entry
from flickbook.errors import FlickbookError, OutputError
from flickbook.files import replace_whole

_OPENERS: Final = {"darwin": "open", "win32": "explorer"}


def suggested(entry: Entry) -> str:
    """A file name for a film: its first words, seed and suffix."""
    words = re.sub(r"[^a-z0-9]+", "-", entry.plan.prompt.lower()[:60]).strip("-")
    return f"{words or 'film'}-{entry.plan.seed}{entry.suffix}"


def saved(film: Path, path: Path, suffix: str) -> Path:
    """Copies a film to `path` atomically. Raises OutputError."""
    if path.suffix.lower() != suffix:
        remedy = f"name it {path.stem}{suffix}; `flickbook polish` writes other formats"
        raise OutputError(path, f"the film is a {suffix} file", remedy)
    try:
        if path.is_dir():
            raise OutputError(path, "is a directory", "choose another name")
        replace_whole(path, lambda draft: shutil.copyfile(film, draft))
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), "choose another place, or free some space") from None
    return path


def revealed(folder: Path | None) -> None:
    """Opens a folder in the system's file manager. Raises FlickbookError if there is none."""
    if folder is None:
        raise FlickbookError("the film is on another machine; Save as… copies it here")
    program = _OPENERS.get(sys.platform, "xdg-open")
    try:
        subprocess.Popen(
            [program, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        raise FlickbookError(
            f"{program} is not installed, so the folder cannot be opened; the film is in {folder}"
        ) from None
