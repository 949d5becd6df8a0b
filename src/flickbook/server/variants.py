"""What the compatible layer gives of a film: a file of it to be saved, and its last frame to go on from."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from flickbook.errors import OutputError
from flickbook.files import replace_whole
from flickbook.server import stills
from flickbook.server.media import Held, opened
from flickbook.server.told import media_type

_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*")


def last_frame(path: Path, place: Path, stem: str) -> Path:
    """The last frame of a film as a PNG in `place`. It blocks. Raises MediaError, OutputError."""
    image = stills.last_frame(path)
    target = place / f"{stem}.png"
    try:
        replace_whole(target, lambda draft: image.save(draft, "PNG"))
    except OSError as error:
        raise OutputError(target.name, error.strerror or str(error), "free some space, and ask again") from None
    return target


async def download(request: Request, root: Path, path: Path, name: str, digest: str = "") -> Response:
    """A file below `root` to be saved as `name`: whole, or the one range asked for; `digest` is its SHA-256.

    Raises HTTPException: 404 where it is gone, 416 for a range outside of it.
    """
    try:
        file, facts = await asyncio.to_thread(opened, root, path)
    except OSError:
        raise HTTPException(404, "the file is gone; it can be made again") from None
    if _outside(request, facts.st_size):
        file.close()
        raise HTTPException(416, "the range lies outside of the file", {"content-range": f"bytes */{facts.st_size}"})
    etag = digest or f"{facts.st_mtime_ns:x}-{facts.st_size:x}"
    return Held(file, facts.st_size, media_type(path.name), etag, name, True, facts.st_mtime)


def _outside(request: Request, size: int) -> bool:
    """Whether a request, if it asks for one range of what it has not, asks for none of `size` bytes."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or "if-none-match" in request.headers or "if-range" in request.headers:
        return False
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return False  # no range at all
    return int(match[1]) >= size if match[1] else match[2] != "" and int(match[2]) == 0
