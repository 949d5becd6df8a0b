"""Files of a video for the compatible API: a download, and the last frame for an extension."""

from __future__ import annotations

from pathlib import Path

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from flickbook.errors import OutputError
from flickbook.files import replace_whole
from flickbook.server.api import thumbnails
from flickbook.server.api.job_files import held


def last_frame(path: Path, place: Path, stem: str) -> Path:
    """Write the last frame of a film as a PNG into `place`. Blocks. Raises MediaError, OutputError."""
    image = thumbnails.last_frame(path)
    target = place / f"{stem}.png"
    try:
        replace_whole(target, lambda draft: draft.write_bytes(image))
    except OSError as error:
        raise OutputError(target.name, error.strerror or str(error), "free disk space, then try again") from None
    return target


async def download(request: Request, root: Path, path: Path, name: str, digest: str = "") -> Response:
    """Return a response that downloads a file below `root` as `name`, whole or one range; `digest` is its SHA-256.

    Raises HTTPException: 404 if the file is gone, 416 for a range outside of it.
    """
    try:
        return await held(request, root, path, name, download=True, digest=digest)
    except OSError:
        raise HTTPException(404, "the file was deleted; create the film again") from None
