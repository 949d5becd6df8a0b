"""Still images of a film: a frame of it, or a contact sheet. Made on the first request and stored next to the film."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from flickbook.errors import JobNotFound, MediaError, OutputError
from flickbook.files import replace_whole
from flickbook.media.untrusted import probe

#: Each thread waits for a child process that decodes the film.
_POOL: Final = ThreadPoolExecutor(2, "stills")


async def thumbnail(film: Path) -> Path:
    """Return the path of a WebP of a film's middle frame. Raises JobNotFound if the film is gone, LimitReached."""
    return await _kept(film, f"{film.stem}-thumbnail.webp", "thumbnail")


async def sheet(film: Path, label: str) -> Path:
    """Return the path of a PNG with up to eight frames of a film and a label above. Raises as `thumbnail` does."""
    return await _kept(film, f"{film.stem}-sheet.png", "sheet", label=label)


async def last(film: Path) -> Path:
    """Return the path of a PNG of a film's last frame in full size. Raises as `thumbnail` does."""
    return await _kept(film, f"{film.stem}-last.png", "last")


async def _kept(film: Path, name: str, task: str, **arguments: str) -> Path:
    found = film.with_name(name)
    if found.is_file():
        return found

    def make() -> None:
        if not found.is_file():  # another request may have made it meanwhile
            picture = probe.ask(task, film, probe.IMAGE, **arguments).data
            replace_whole(found, lambda draft: draft.write_bytes(picture))

    try:
        await asyncio.get_running_loop().run_in_executor(_POOL, make)
    except (FileNotFoundError, MediaError):
        raise JobNotFound(film.parent.name) from None
    return found


def last_frame(path: Path, target: Path) -> Path:
    """Write the last frame of a film, or an image, as a PNG. Blocks. Raises MediaError, LimitReached, OutputError."""
    image = probe.ask("last", path, probe.IMAGE).data
    try:
        replace_whole(target, lambda draft: draft.write_bytes(image))
    except OSError as error:
        raise OutputError(target.name, error.strerror or str(error), "free disk space, then try again") from None
    return target
