"""What a job made, as a file: under a name of its attempt on the shelf, or the one that its command was given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from flickbook import formats
from flickbook.engine.treat import polish
from flickbook.errors import FlickbookError, OutputError
from flickbook.files import sha256
from flickbook.jobs.backend import Backend
from flickbook.media.clip import Clip, sidecar_path
from flickbook.media.embedded import carried
from flickbook.media.write import write
from flickbook.resolution import notes
from flickbook.spec import Sidecar
from flickbook.store.base import Job, Result

PathOf = Callable[[Job, Clip], Path]
#: The name of a film that was sent to be gone on from.
PARENT: Final = "given-parent"


def filed(backend: Backend, job: Job, clip: Clip, path_of: PathOf | None = None) -> Result:
    """A film as a file; `path_of` says where a command's goes. Raises OutputError, OSError."""
    told = notes(job.request, job.plan, Path(job.model_dir) if job.model_dir else None)
    if job.home == "command":
        path = Path(job.output) if path_of is None else path_of(job, clip)
        clip = clip.noted(told)
        clip.save(path, overwrite=bool(job.overwrite) or _filed_before(job, clip, path))
    else:
        path = backend.artifacts.film(job.id, job.attempt, formats.FORMS[job.plan.container].suffixes[0])
        clip = _joined(backend, job, clip) if job.kind == "extension" else clip
        clip = clip.noted(told)
        clip.save(path, overwrite=True)
    sidecar = Sidecar(recipe=clip.recipe, run=clip.run)
    if formats.is_frames(path):
        return Result(path=str(path), sidecar=sidecar)
    return Result(path=str(path.absolute()), bytes=path.stat().st_size, sha256=sha256(path), sidecar=sidecar)


def drafted(backend: Backend, job: Job, frames: np.ndarray, fps: float) -> Result:
    """A draft as a moving picture; its latents stay where they are."""
    path = backend.artifacts.film(job.id, job.attempt, ".webp")
    write(path, frames, fps, None, overwrite=True)
    return Result(path=str(path), bytes=path.stat().st_size, sha256=sha256(path))


def removed(job: Job, result: Result) -> None:
    """Remove what a job of the queue made that counts no more."""
    if job.home == "queue":
        for path in (Path(result.path), sidecar_path(result.path)):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _joined(backend: Backend, job: Job, clip: Clip) -> Clip:
    """A film behind the one that it goes on from."""
    place = backend.artifacts.of(job.id)
    before = next(iter(sorted(place.glob(f"{PARENT}.*"))), None)
    part = backend.artifacts.film(job.id, job.attempt, "-part.mkv")
    try:
        clip.save(part, overwrite=True)
        encoding = job.plan.encoding()
        how = {} if encoding is None else encoding.model_dump()
        return polish(before or _parent(backend, job), join=[part], fit=True, **how)
    finally:
        part.unlink(missing_ok=True)
        sidecar_path(part).unlink(missing_ok=True)


def _parent(backend: Backend, job: Job) -> Path:
    parent = backend.ask(backend.queue.job(job.parent))
    if parent.result is None or not parent.result.path:
        raise OutputError(job.parent, "the film to go on from is gone", "extend another")
    return Path(parent.result.path)


def _filed_before(job: Job, clip: Clip, path: Path) -> bool:
    """Whether the film at `path` is this one, which an attempt wrote that was killed before it could say so."""
    if job.attempt < 2 or clip.recipe is None:
        return False
    try:
        return carried(path)[0].frames_sha256 == clip.recipe.frames_sha256
    except FlickbookError:
        return False
