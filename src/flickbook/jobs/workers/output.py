"""Writes the result of a job to a file, in the artifact store or at the path that a command chose, and in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from flickbook import formats
from flickbook.engine.treat import polish
from flickbook.errors import FlickbookError, OutputError
from flickbook.files import replace_whole, sha256
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.log import WRITER_THREAD
from flickbook.media.clip import Clip, sidecar_path
from flickbook.media.embedded import carried
from flickbook.media.write import write
from flickbook.resolution import notes
from flickbook.spec import Sidecar
from flickbook.store.base import Job, Result

Work = Callable[[], None]
PathOf = Callable[[Job, Clip], Path]
#: File name of an uploaded film to extend.
PARENT: Final = "given-parent"


def filed(backend: Backend, job: Job, clip: Clip, path_of: PathOf | None = None) -> Result:
    """Writes a film to a file; `path_of` chooses the path of a command's film. Raises OutputError, OSError."""
    plan_notes = notes(job.request, job.plan, Path(job.model_dir) if job.model_dir else None)
    if job.home == "command":
        path = Path(job.output) if path_of is None else path_of(job, clip)
        clip = clip.noted(plan_notes)
        clip.save(path, overwrite=bool(job.overwrite) or _filed_before(job, clip, path))
    else:
        path = backend.artifacts.film(job.id, job.attempt, formats.FORMS[job.plan.container].suffixes[0])
        clip = _joined(backend, job, clip) if job.kind == "extension" else clip
        clip = clip.noted(plan_notes)
        clip.save(path, overwrite=True)
        if clip.latents is not None:
            data = clip.latents
            replace_whole(latents_path(path), lambda draft: draft.write_bytes(data))
            backend.artifacts.commit(latents_path(path))
        backend.artifacts.commit(path)
    sidecar = Sidecar(recipe=clip.recipe, run=clip.run)
    if formats.is_frames(path):
        return Result(path=str(path), sidecar=sidecar)
    return Result(path=str(path.absolute()), bytes=path.stat().st_size, sha256=sha256(path), sidecar=sidecar)


def latents_path(film: Path) -> Path:
    """The path of the last latents that are kept beside a film."""
    return film.with_suffix(".safetensors")


def drafted(backend: Backend, job: Job, frames: np.ndarray, fps: float) -> Result:
    """Writes a draft as an animated WebP; its latents stay in the checkpoint."""
    path = backend.artifacts.film(job.id, job.attempt, ".webp")
    write(path, frames, fps, None, overwrite=True)
    backend.artifacts.commit(path)
    backend.artifacts.upload(job.id)
    return Result(path=str(path), bytes=path.stat().st_size, sha256=sha256(path))


def removed(job: Job, result: Result) -> None:
    """Removes the output of a queued job whose lease was lost."""
    if job.home == "queue":
        for path in (Path(result.path), sidecar_path(result.path), latents_path(Path(result.path))):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _joined(backend: Backend, job: Job, clip: Clip) -> Clip:
    """Joins a film to the end of the film that it extends."""
    place = backend.artifacts.of(job.id)
    before = next(iter(sorted(place.glob(f"{PARENT}.*"))), None)
    part = backend.artifacts.film(job.id, job.attempt, "-part.mkv")
    try:
        clip.save(part, overwrite=True)
        encoding = job.plan.encoding()
        how = {} if encoding is None else encoding.model_dump()
        made = polish(before or _parent(backend, job), join=[part], fit=True, **how)
        return replace(made, latents=clip.latents)
    finally:
        part.unlink(missing_ok=True)
        sidecar_path(part).unlink(missing_ok=True)


def _parent(backend: Backend, job: Job) -> Path:
    parent = backend.artifacts.localised(backend.ask(backend.queue.job(job.parent)))
    if parent.result is None or not parent.result.path:
        raise OutputError(job.parent, "the film to extend was deleted", "extend another film")
    path = Path(parent.result.path)
    if parent.home == "queue":
        backend.artifacts.fetch(path)
    return path


def _filed_before(job: Job, clip: Clip, path: Path) -> bool:
    """Whether the file at `path` is this film, written by an attempt that was killed before it was settled."""
    if job.attempt < 2 or clip.recipe is None:
        return False
    try:
        return carried(path)[0].frames_sha256 == clip.recipe.frames_sha256
    except FlickbookError:
        return False


class BackgroundWriter:
    """Runs one function after the other in a thread. The functions must catch their own errors."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=WRITER_THREAD)
        self._last: Future[None] | None = None

    def hand(self, work: Work) -> None:
        """Runs a function next. Blocks until the previous one has finished, so that at most one film waits to be
        written.
        """
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(work)

    def after(self, work: Work) -> None:
        """Runs a function after all that were submitted so far."""
        self._thread.submit(work)

    def wait(self) -> None:
        """Waits until all functions have finished."""
        self._thread.submit(lambda: None).result()
