"""The local queue as a Source, with a worker process of the window's own."""

from __future__ import annotations

import shutil
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import Image

from flickbook import catalogue, formats, settings
from flickbook.conditioning import relocated
from flickbook.desktop import frame_buffer
from flickbook.desktop.sources.downloads import Downloads
from flickbook.desktop.sources.source import KINDS, NEWEST, Entry, Offer
from flickbook.errors import FlickbookError, MediaError, MissingExtra, ModelNotPulled, OutputError, StoreError
from flickbook.files import replace_whole
from flickbook.hub.find import directory, found
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.workers.supervisor import Supervisor
from flickbook.spec import Request
from flickbook.store.base import Job, Query, new_id

_AWAY: Final = ("is not open", "try again")


class Local:
    """A store, by default the one in the settings, and the artifact store.

    With `workers` 0, jobs are only queued, for workers that run elsewhere.
    """

    title = "This computer"
    local = True

    def __init__(self, store: str = "", workers: int = 1) -> None:
        self._store, self._workers = store, workers
        self._backend: Backend | None = None
        self._supervisor: Supervisor | None = None
        self._downloads: Downloads | None = None
        # The window may be closed while the source is opened.
        self._moving = threading.Lock()

    @property
    def backend(self) -> Backend:
        """The queue. Raises StoreError if it is not open."""
        if self._backend is None:
            raise StoreError(self._store or "store", *_AWAY)
        return self._backend

    def open(self) -> list[Offer]:
        """Opens the store and starts the worker."""
        with self._moving:
            if self._backend is None:
                self._backend = Backend.at(self._store)
            self._backend.ask(self._backend.queue.recover())
            if self._supervisor is None and self._workers and find_spec("torch") is not None:
                self._supervisor = Supervisor(self._store, self._backend.artifacts.root, self._workers)
                self._supervisor.start()
                if settings.load().pull == "auto":
                    self._downloads = Downloads(self._backend)
        return [Offer(model, found(model) is not None) for model in catalogue.list_models()]

    def close(self) -> None:
        """Makes the worker release its job with a checkpoint, and closes the store."""
        with self._moving:
            supervisor, self._supervisor = self._supervisor, None
            downloads, self._downloads = self._downloads, None
            backend, self._backend = self._backend, None
            if downloads is not None:
                downloads.stop()
            if supervisor is not None:
                supervisor.stop()
            if backend is not None:
                backend.close()

    def make(self, request: Request) -> Entry:
        """Queues a job. Raises the errors of `ordered`, MissingExtra without torch, ModelNotPulled for a missing model.

        If the setting `pull` is auto, the job waits for the download of a missing model.
        """
        backend = self.backend
        if find_spec("torch") is None:
            raise MissingExtra("torch", "gen")
        job = self._job(request)
        try:
            directory(catalogue.find(request.model))
        except ModelNotPulled:
            if self._downloads is None:
                backend.artifacts.clear(job.id)
                raise
        (kept,) = backend.ask(backend.queue.submit([job]))
        if self._downloads is not None:
            self._downloads.look()
        return self._entry(kept)

    def _job(self, request: Request) -> Job:
        """The job of a request, with a copy of its input files, which the user may move or change meanwhile."""
        artifacts, id = self.backend.artifacts, new_id("job")

        def copied(name: str, path: str) -> str:
            target = artifacts.made(id) / f"given-{name}{Path(path).suffix}"
            try:
                replace_whole(target, lambda draft: shutil.copyfile(path, draft))
            except OSError as error:
                raise MediaError(path, error.strerror or "cannot be read", "choose another file") from None
            return str(target)

        try:
            job = ordered(request.model_copy(update=relocated(request, copied)))
            artifacts.upload(id)
        except FlickbookError:
            artifacts.clear(id)
            raise
        return job.model_copy(update={"id": id})

    def notes(self, prompt: str, model: str) -> list[str]:
        """Notes of the model's list of words."""
        return [note for note in [catalogue.find(model).unlearned(prompt)] if note]

    def entry(self, id: str) -> Entry:
        """Finds a job. Raises JobNotFound."""
        return self._entry(self.backend.ask(self.backend.queue.job(id)))

    def recent(self) -> list[Entry]:
        """The newest jobs of the store, of all owners."""
        return [self._entry(job) for job in self.backend.ask(self.backend.store.find(Query(kinds=KINDS, limit=NEWEST)))]

    def cancel(self, id: str) -> Entry:
        """Cancels a job. Raises JobConflict if it has ended."""
        return self._entry(self.backend.ask(self.backend.queue.cancel(id)))

    def pause(self, id: str) -> Entry:
        """Pauses a job. Raises JobConflict if it has ended."""
        return self._entry(self.backend.ask(self.backend.queue.pause(id)))

    def resume(self, id: str) -> Entry:
        """Resumes a job. Raises JobConflict if it is not paused. A job of a command stays paused."""
        return self._entry(self.backend.ask(self.backend.queue.resume(id)))

    def preview(self, id: str) -> bytes | None:
        """The newest preview in the artifact store."""
        self.backend.artifacts.watch(id)
        return self.backend.artifacts.preview(id)

    def film(self, entry: Entry) -> Path:
        """The file of a film. Raises OutputError if it is gone."""
        job = self.backend.ask(self.backend.queue.job(entry.id))
        path = _file(job)
        if path is None:
            raise OutputError(entry.id, "its file was deleted", "make it again")
        return path

    def still(self, entry: Entry, side: int) -> Image.Image:
        """The middle frame."""
        return frame_buffer.still(self.film(entry), side)

    def folder(self, entry: Entry) -> Path | None:
        """The directory of the file."""
        return self.film(entry).parent

    def _entry(self, job: Job) -> Entry:
        progress = self.backend.artifacts.progress(job.id) if job.state == "running" else {}
        if job.state == "queued" and not job.model_dir and (pulling := self.backend.artifacts.pulling(job.plan.model)):
            progress = {"phase": "pull", **pulling}
        if progress.get("attempt", job.attempt) != job.attempt:
            progress = {}  # progress of an earlier attempt
        path = _file(job)
        run = None if job.result is None else job.result.sidecar.run
        eta = progress.get("eta_seconds")
        return Entry(
            id=job.id,
            kind=job.kind,
            state=job.state,
            plan=job.plan,
            created_at=job.created_at,
            stopping=job.wanted if job.state == "running" else "",
            phase=str(progress.get("phase", "")),
            index=int(progress.get("index", 0)),
            total=int(progress.get("total", 0)),
            fraction=float(progress.get("fraction", job.reached)),
            eta=None if eta is None else float(eta),
            error=job.error if job.state == "failed" else "",
            made=path is not None,
            mark=str(path or ""),
            seconds=job.seconds,
            notes=() if run is None else tuple(run.notes),
            by_command=job.home == "command",
        )


def _file(job: Job) -> Path | None:
    """The file of a completed job, if it still exists. None for numbered frames, as none of them is the film."""
    if job.state != "completed" or job.result is None or formats.is_frames(job.result.path):
        return None
    path = Path(job.result.path)
    return path if path.is_file() else None
