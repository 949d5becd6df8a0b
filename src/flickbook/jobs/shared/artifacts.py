"""The artifact store of several machines: each has a local directory, and storage at a URL holds what they share.

A worker copies its job's files from the storage before it runs the job, sends changed files every second while the job
runs, and sends the film before the job is completed. Another machine therefore finds the last checkpoint of a job whose
worker was lost. A server copies a file when it needs it, and streams films straight from the storage.
"""

from __future__ import annotations

import logging
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from flickbook.conditioning import moved
from flickbook.errors import OutputError, StoreError
from flickbook.files import sha256
from flickbook.jobs.artifacts import LOG, LORAS, PREVIEW, PROGRESS, REMEDY, WATCHED, WATCHING, ArtifactStore, Opened
from flickbook.jobs.shared.remote import Manifest, RemoteFiles
from flickbook.store.base import ID, Job

#: Seconds between two passes that send what changed, and for which a file that changes is not looked at again.
SEND_EVERY: Final = 1.0
FRESH: Final = 1.0
#: Seconds between two notes that a caller is watching, and between two looks for them.
NOTE_EVERY: Final = 3.0
#: Files that change while a job runs. Readers copy them again and again, into a directory of their own: a worker with
#: the same jobs_dir may be writing newer ones. All other files stay as they are once a job is queued.
_CHANGING: Final = frozenset((PROGRESS, PREVIEW, LOG))
_COPIES: Final = "copies"
#: Films are sent when they are finished, and are not copied to the next worker.
_FILM: Final = "film-"
#: A path in the directory of a job, or of a LoRA of an owner, as any machine may have written it.
_INSIDE: Final = re.compile(
    rf"(?:^|[/\\])([0-9a-z]{{2}}[/\\]{ID.pattern}[/\\].+|{LORAS}[/\\][0-9a-f]{{32}}[/\\][^/\\]+)$"
)
#: Files of which is known what the storage holds.
_MOST_KNOWN: Final = 20_000

logger = logging.getLogger(__name__)


@dataclass
class _Copy:
    """What this process knows of a stored file: its manifest, the state of the local file that equals it, and when it
    was looked at.
    """

    manifest: Manifest | None = None
    state: tuple[int, int] | None = None
    looked: float = float("-inf")


class SharedArtifacts(ArtifactStore):
    """The directories of jobs below `root`, with the storage at `url` behind them.

    Raises RequestError for a URL that cannot be opened, MissingExtra.
    """

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.remote = RemoteFiles(url)
        self._copies: dict[str, _Copy] = {}
        self._watchers: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        #: For requests whose result may come later.
        self._later = ThreadPoolExecutor(4, "artifacts")

    # Paths

    def localised(self, job: Job) -> Job:
        """The job with the paths of its files on this machine; another machine may have written it."""
        request = moved(job.request, lambda _, path: self._local(path))
        found: dict[str, Any] = {"request": request}
        found["networks"] = {digest: self._local(path) for digest, path in job.networks.items()}
        if job.tuning is not None:
            paths = {name: self._local(getattr(job.tuning, name)) for name in ("clips", "prior_prompts")}
            found["tuning"] = job.tuning.model_copy(update=paths)
        if job.result is not None:
            found["result"] = job.result.model_copy(update={"path": self._local(job.result.path)})
        return job.model_copy(update=found)

    def _local(self, path: str) -> str:
        match = _INSIDE.search(path)
        return path if match is None else str(self.root.joinpath(*re.split(r"[/\\]", match[1])))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _copy(self, name: str) -> _Copy:
        """What is known of a file. Call with the lock held."""
        while len(self._copies) > _MOST_KNOWN:  # forgetting costs one request
            del self._copies[next(iter(self._copies))]
        return self._copies.setdefault(name, _Copy())

    # To the storage

    def commit(self, path: Path) -> None:
        """Sends a finished file to the storage. Raises StoreError."""
        name, state = self._name(path), _state(path)
        with self._lock:
            copy = self._copy(name)
            known, equal = copy.manifest, copy.state == state
        if state is None or (equal and known is not None):
            return
        with suppress(FileNotFoundError):  # removed meanwhile
            self._note(name, self.remote.put(path, name, known), state)

    def upload(self, id: str) -> None:
        """Sends all files of a job to the storage. Raises StoreError."""
        for path in _files(self.of(id)):
            self.commit(path)

    def _note(self, name: str, manifest: Manifest, state: tuple[int, int] | None) -> None:
        with self._lock:
            copy = self._copy(name)
            copy.manifest, copy.state = manifest, state

    # From the storage

    def fetch(self, path: Path) -> None:
        """Copies a file from the storage if it is not here. Raises StoreError, OutputError."""
        if not path.is_file():
            self._fetch(self._name(path), path)

    def fetch_job(self, id: str) -> None:
        """Copies the files of a job from the storage, except its films. Raises StoreError, OutputError."""
        for name in self.remote.names(self._name(self.of(id))):
            if not name.rpartition("/")[2].startswith(_FILM):
                self._fetch(name, self.root / name)

    def _fetch(self, name: str, path: Path) -> None:
        """Copies a stored file to `path` unless the file there equals it."""
        manifest, state, note = self.remote.manifest(name), _state(path), self._name(path)
        if manifest is None:
            return
        with self._lock:
            copy = self._copy(note)
            if copy.manifest == manifest and copy.state == state and state is not None:
                return
        if _holds(path, manifest):
            self._note(note, manifest, state)
            return
        try:
            found = self.remote.fetch(name, path)
        except OSError as error:
            raise OutputError(path, error.strerror or str(error), REMEDY) from None
        if found is not None:
            self._note(note, found, _state(path))

    @contextmanager
    def mirrored(self, ids: Sequence[str], may_send: Callable[[], bool]) -> Iterator[None]:
        """Copies the files of these jobs here, sends what changes until the context ends, and once more at its end, as
        long as `may_send` returns True.

        Raises StoreError or OutputError if they cannot be copied. What cannot be sent is sent by the next pass.
        """
        for id in ids:
            self.fetch_job(id)
        over = threading.Event()

        def keep() -> None:
            while not over.wait(SEND_EVERY):
                self._send_changes(ids, may_send)

        thread = threading.Thread(target=keep, name="mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._send_changes(ids, may_send)

    def _send_changes(self, ids: Sequence[str], may_send: Callable[[], bool]) -> None:
        for path in (each for id in ids for each in _files(self.of(id)) if not each.name.startswith(_FILM)):
            try:
                if may_send():  # otherwise another worker sends newer files
                    self.commit(path)
            except (StoreError, OSError) as error:
                logger.warning("%s is not sent yet: %s", path.name, error)
                return

    # What servers read

    def opened(self, path: Path) -> Opened:
        """Opens a file of this machine, or of the storage, for reading at any position. Raises OSError."""
        try:
            if path.name in _CHANGING:
                self._fetch(self._name(path), self._shown(path))
                return super().opened(self._shown(path))
            with suppress(FileNotFoundError):
                return super().opened(path)
            found = self.remote.open(self._name(path))
        except (StoreError, OutputError) as error:
            raise OSError(str(error)) from error
        if found is None:
            raise FileNotFoundError(path)
        return Opened(cast(BinaryIO, found[0]), found[1].size, found[1].modified, found[1].sha256)

    def shown(self, id: str, name: str) -> Path:
        """Where a file that changes while a job runs is read: a copy of the stored one, as of about a second ago."""
        path = self.of(id) / name
        self._look(path, self._shown(path), FRESH)
        return self._shown(path)

    def read_log(self, id: str) -> str:
        """The log of a job's attempts, or ""."""
        path = self.of(id) / LOG
        with suppress(StoreError, OutputError):
            self._fetch(self._name(path), self._shown(path))
        return super().read_log(id)

    def _shown(self, path: Path) -> Path:
        return self.root / _COPIES / path.relative_to(self.root)

    def _look(self, path: Path, to: Path, every: float) -> None:
        """Copies a stored file in the background, at most once in `every` seconds. Errors leave the old copy."""
        name = self._name(path)

        def look() -> None:
            try:
                self._fetch(name, to)
            except (StoreError, OutputError):
                self._again(name)

        self._soon(name, every, look)

    def _soon(self, name: str, every: float, work: Callable[[], None]) -> None:
        if self._is_due(name, every):
            self._later.submit(work)

    def _is_due(self, name: str, every: float) -> bool:
        """Whether a name was last looked at `every` seconds ago or longer; if so, it is looked at now."""
        now = time.monotonic()
        with self._lock:
            copy = self._copy(name)
            due = now - copy.looked >= every
            if due:
                copy.looked = now
        return due

    def _again(self, name: str) -> None:
        """Lets the next call look at a file again."""
        with self._lock:
            self._copy(name).looked = float("-inf")

    def loras(self, owner: str) -> Path:
        """Folder of an owner's finished LoRAs, which only that owner may use. Blocks when they are copied."""
        folder = super().loras(owner)
        if self._is_due(self._name(folder), FRESH):
            with suppress(StoreError, OutputError):
                for each in self.remote.names(self._name(folder)):
                    self.fetch(self.root / each)
        return folder

    def publish(self, id: str, owner: str, name: str) -> str:
        """Puts the LoRA of a finished training into the owner's folder and returns its name."""
        found = super().publish(id, owner, name)
        self.commit(super().loras(owner) / f"{found}.safetensors")
        self.upload(id)
        return found

    # Watching

    def watch(self, id: str) -> None:
        """Notes in the background that a caller is watching the previews of a job now."""
        name = self._name(self.of(id) / WATCHED)

        def note() -> None:
            with suppress(StoreError):
                self.remote.put_bytes(str(time.time_ns()).encode("ascii"), name)

        self._soon(name, NOTE_EVERY, note)

    def watched(self, id: str) -> bool:
        """Whether the note changed within the last seconds. Clocks of different machines are not compared."""
        name = self._name(self.of(id) / WATCHED)

        def look() -> None:
            with suppress(StoreError):
                found = self.remote.manifest(name)
                data = b"" if found is None or found.data is None else found.data
                if data and self._watchers.get(id, (b"", 0.0))[0] != data:
                    self._watchers[id] = data, time.monotonic()

        self._soon(name, NOTE_EVERY, look)
        return time.monotonic() - self._watchers.get(id, (b"", float("-inf")))[1] < WATCHING

    # Batches

    def gather(self, jobs: Sequence[Job]) -> str:
        """Starts a batch of these jobs and returns its id. The batch is stored when this returns."""
        batch = super().gather(jobs)
        for id in (batch, *(job.id for job in jobs)):
            self.upload(id)
        return batch

    def batch(self, id: str) -> tuple[str, list[Job]]:
        """The id of a job's batch and the jobs that it began with; "" and [] without a batch. Blocks."""
        with suppress(StoreError, OutputError):
            self.fetch_job(id)
            if batch := self._batch_of(id):
                self.fetch_job(batch)
        return super().batch(id)

    def members(self, batch: str) -> list[str]:
        """The jobs that may still resume from a batch's checkpoint."""
        try:
            names = [name.rpartition("/")[2] for name in self.remote.names(self._name(self.of(batch)))]
        except StoreError:
            return super().members(batch)
        return [name for name in names if ID.fullmatch(name)]

    def leave(self, id: str) -> None:
        """Takes a job out of its batch; the last job to leave removes the batch."""
        batch = self._batch_of(id)
        if batch:
            self._remove(self._name(self.of(batch) / id))
        super().leave(id)
        if batch:
            self._remove(self._name(self._pointer(id)))

    # Deleting

    def forget(self, id: str) -> None:
        """Removes the saved state of a job, here and in the storage."""
        before = _files(self.of(id))
        super().forget(id)
        for path in before:
            if not path.exists():
                self._remove(self._name(path))

    def clear(self, id: str) -> int:
        """Removes the directory of a job or a batch here and in the storage. Returns the bytes freed here."""
        lora = self._published(id)
        size = super().clear(id)
        shutil.rmtree(self._shown(self.of(id)), ignore_errors=True)
        for path in [self.of(id)] + ([] if lora is None else [lora]):
            self._remove(self._name(path))
        return size

    def _remove(self, name: str) -> None:
        """Removes a file or a directory from the storage. What cannot be removed now is left."""
        try:
            self.remote.remove(name)
        except StoreError as error:
            logger.warning("%s is not removed: %s", name, error)
        with self._lock:
            for each in [each for each in self._copies if each == name or each.startswith(f"{name}/")]:
                del self._copies[each]

    def check(self) -> None:
        """Raises OutputError or StoreError if files cannot be written here or in the storage."""
        super().check()
        self.remote.check()


def _files(place: Path) -> list[Path]:
    """The finished files below a directory, the oldest first, so that a file is sent before another that names it."""
    found = []
    for path in place.rglob("*"):
        state = None if path.name.startswith(".") or path.name == WATCHED else _state(path)
        if state is not None:
            found.append((state, path))
    return [path for _, path in sorted(found)]


def _holds(path: Path, manifest: Manifest) -> bool:
    """Whether a local file is the stored one."""
    with suppress(OSError):
        return path.stat().st_size == manifest.size and sha256(path) == manifest.sha256
    return False


def _state(path: Path) -> tuple[int, int] | None:
    """When a file was written, in nanoseconds, and its size; None for a directory and if there is no such file."""
    with suppress(OSError):
        facts = path.stat()
        return (facts.st_mtime_ns, facts.st_size) if stat.S_ISREG(facts.st_mode) else None
    return None
