"""A film as one picture: a frame of it, or a sheet. Made when first asked for, and kept beside the film."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from flickbook.errors import JobNotFound, MediaError
from flickbook.files import replace_whole
from flickbook.media.untrusted import probe

#: Each waits for a child of its own that decodes the film.
_POOL: Final = ThreadPoolExecutor(2, "stills")
_STILL: Final = probe.Budget(memory_mib=1024, cpu_seconds=120, seconds=600)


async def thumbnail(film: Path) -> Path:
    """A WebP of the frame in the middle of a film. Raises JobNotFound where the film is gone, LimitReached."""
    return await _kept(film, f"{film.stem}-thumbnail.webp", "thumbnail")


async def sheet(film: Path, label: str) -> Path:
    """A PNG of up to eight frames of a film with a label above. Raises as `thumbnail` does."""
    return await _kept(film, f"{film.stem}-sheet.png", "sheet", label=label)


async def last(film: Path) -> Path:
    """A PNG of a film's last frame, as large as it is. Raises as `thumbnail` does."""
    return await _kept(film, f"{film.stem}-last.png", "last")


async def _kept(film: Path, name: str, task: str, **arguments: str) -> Path:
    found = film.with_name(name)
    if found.is_file():
        return found

    def make() -> None:
        if not found.is_file():  # another request may have made it meanwhile
            picture = probe.ask(task, film, _STILL, **arguments).data
            replace_whole(found, lambda draft: draft.write_bytes(picture))

    try:
        await asyncio.get_running_loop().run_in_executor(_POOL, make)
    except (FileNotFoundError, MediaError):
        raise JobNotFound(film.parent.name) from None
    return found


def last_frame(path: Path) -> bytes:
    """A PNG of the last frame of a film, or of a picture. It blocks. Raises MediaError, LimitReached."""
    return bytes(probe.ask("last", path, _STILL).data)
