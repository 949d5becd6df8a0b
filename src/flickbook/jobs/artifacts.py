"""The artifact store: one directory per job, named by its id. User input is never part of a path, except for names that
match a pattern: those of uploaded clips and of LoRAs.

<job>/progress.json       progress; rewritten atomically and never flushed to disk
<job>/preview.webp        animated preview of the film while it is denoised
<job>/checkpoint.safetensors     checkpoint that the job resumes from
<job>/try-….safetensors          checkpoints of retries with other seeds
<job>/pictures/           pictures of a sequence so far, from which it resumes
<job>/given-…             uploaded source image or video
<job>/clips/, prior.txt   uploaded dataset of a training, and its prior prompts
<job>/lora/NAME/          training in progress, then the LoRA or network and its report
<job>/published           path of the LoRA below loras/
loras/<owner>/NAME.safetensors   finished LoRAs of an owner (a hash), hard links to the files of the jobs
<job>/film-<attempt>.mp4  result, with its recipe and its last latents beside it
<job>/log.txt             log of all attempts
<job>/batch               id of the batch that the job runs in
<batch>/jobs.json         jobs that the batch began with, in order
<batch>/<job>             empty; exists while that job may resume from the batch's checkpoint
<batch>/checkpoint.safetensors   checkpoint of all films of the batch
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from flickbook.errors import OutputError, RequestError
from flickbook.files import link_new, open_below, replace_whole
from flickbook.store.base import ID, Job, new_id

PROGRESS: Final = "progress.json"
PREVIEW: Final = "preview.webp"
CHECKPOINT: Final = "checkpoint.safetensors"
LOG: Final = "log.txt"
PICTURES: Final = "pictures"
TAKES: Final = "takes"
#: Of a training: its uploaded dataset, its directory, its LoRA or network, and a picture without and with that.
CLIPS: Final = "clips"
TUNE: Final = "lora"
WEIGHTS: Final = "pytorch_lora_weights.safetensors"
NETWORK: Final = "diffusion_pytorch_model.safetensors"
COMPARISON: Final = "with-without.png"
#: What a finished training no longer needs. Of the model of a full one `NETWORK` is kept, the rest is its base's.
_SCRATCH: Final = ("cache", "checkpoints", "model")
LORAS: Final = "loras"
_PUBLISHED: Final = "published"
_LINK: Final = re.compile(r"[0-9a-f]{32}/[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.safetensors")
#: Also the prefix of batch ids.
_BATCH: Final = "batch"
_JOBS: Final = "jobs.json"
_PULLS: Final = "pulls"
_TRY: Final = "try-"
_FILM: Final = re.compile(r"film-(\d+)")
_MAX_PROGRESS: Final = 1 << 16
REMEDY: Final = "choose another jobs_dir, or free some space"
WATCHED: Final = "watched"
#: Seconds for which a note that a caller is watching counts.
WATCHING: Final = 10.0


class Opened(NamedTuple):
    """An open file, its size in bytes, when it was modified (seconds since 1970), and a text that changes with it."""

    file: BinaryIO
    size: int
    modified: float
    tag: str


class ArtifactStore:
    """The directories of jobs below `root`, which the server and its workers share.

    Methods that speak of the storage do nothing here; `flickbook.jobs.shared` has a store for several machines.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, id: str) -> Path:
        """The directory of a job. Raises RequestError if `id` is not a job id."""
        if not ID.fullmatch(id):
            raise RequestError("id", id, "is not a job id", "give an id as `flickbook jobs list` shows it")
        return self.root / id[-2:] / id

    def made(self, id: str) -> Path:
        """Creates the directory of a job if needed and returns it. Raises OutputError."""
        place = self.of(id)
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(place, error.strerror or str(error), REMEDY) from None
        return place

    def localised(self, job: Job) -> Job:
        """The job with the paths of its files on this machine."""
        return job

    def commit(self, path: Path) -> None:
        """Sends a finished file to the storage. Raises StoreError."""

    def upload(self, id: str) -> None:
        """Sends all files of a job to the storage. Raises StoreError."""

    def fetch(self, path: Path) -> None:
        """Copies a file from the storage to this machine if it is not here. Raises StoreError, OutputError."""

    def fetch_job(self, id: str) -> None:
        """Copies the files of a job from the storage, except its films. Raises StoreError, OutputError."""

    @contextmanager
    def mirrored(self, ids: Sequence[str], may_send: Callable[[], bool]) -> Iterator[None]:
        """Copies the files of these jobs from the storage, and sends what changes until the context ends, as long as
        `may_send` returns True. Raises StoreError, OutputError.
        """
        yield

    def opened(self, path: Path) -> Opened:
        """Opens a regular file below `root` for reading at any position. Raises OSError for anything else."""
        file = open_below(self.root, path)
        facts = os.fstat(file.fileno())
        tag = f"{facts.st_mtime_ns:x}-{facts.st_size:x}-{facts.st_ino:x}"
        return Opened(file, facts.st_size, facts.st_mtime, tag)

    def shown(self, id: str, name: str) -> Path:
        """Where a file that changes while a job runs is read: its progress, preview or log."""
        return self.of(id) / name

    def check(self) -> None:
        """Raises OutputError or StoreError if files cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self.root) as file:
                file.write(b"x")
        except OSError as error:
            raise OutputError(self.root, error.strerror or str(error), REMEDY) from None

    def checkpoint(self, id: str) -> Path:
        """Path of a job's checkpoint."""
        return self.of(id) / CHECKPOINT

    def pictures(self, id: str) -> Path:
        """Directory in which a running sequence keeps its pictures."""
        return self.of(id) / PICTURES

    def takes(self, id: str) -> Path:
        """Directory in which a running film of several shots keeps its finished shots."""
        return self.of(id) / TAKES

    def tune(self, id: str, name: str) -> Path:
        """Directory of a training. `name` matches the pattern of `Tuning.name`."""
        return self.of(id) / TUNE / name

    def loras(self, owner: str) -> Path:
        """Folder of an owner's finished LoRAs, which only that owner may use."""
        return self.root / LORAS / hashlib.sha256(owner.encode()).hexdigest()[:32]

    def publish(self, id: str, owner: str, name: str) -> str:
        """Puts the LoRA of a finished training into the owner's folder and returns its name: NAME, or NAME-2 and so on
        if there is one of that name. A second call changes nothing. Raises OutputError.
        """
        pointer, folder, source = self.made(id) / _PUBLISHED, self.loras(owner), self.tune(id, name) / WEIGHTS
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            before, number = self._published(id), 1
            while True:
                path = before or folder / f"{name if number == 1 else f'{name}-{number}'}.safetensors"
                # The pointer comes first, so that a kill in between leaves no LoRA that its job does not know.
                self._put(pointer, f"{folder.name}/{path.name}".encode("ascii"))
                if link_new(source, path) or (before and _equal(source, path)):
                    return path.stem
                before, number = None, number + (before is None)
        except OSError as error:
            raise OutputError(folder, error.strerror or str(error), "free disk space, then retry the job") from None

    def lora_name(self, id: str) -> str:
        """The name under which the LoRA of a training was published; "" before that."""
        path = self._published(id)
        return "" if path is None else path.stem

    def _published(self, id: str) -> Path | None:
        with suppress(OSError, ValueError):
            text = (self.of(id) / _PUBLISHED).read_text(encoding="ascii")
            if _LINK.fullmatch(text):
                return self.root / LORAS / text
        return None

    def film(self, id: str, attempt: int, suffix: str) -> Path:
        """Path of the file that an attempt writes. It contains the attempt's number, so no two attempts write the same
        file.
        """
        return self.of(id) / f"film-{attempt}{suffix}"

    def write_progress(self, id: str, **progress: Any) -> None:
        """Saves the progress of a job. Progress may be lost, so errors are ignored."""
        with suppress(OSError, OutputError):
            self._put(self.made(id) / PROGRESS, json.dumps({**progress, "at": time.time()}).encode("ascii"))

    def show(self, id: str, preview: bytes) -> None:
        """Saves the newest preview of a job, an animated WebP."""
        with suppress(OSError, OutputError):
            self._put(self.made(id) / PREVIEW, preview)

    def _put(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_bytes(data)
            os.replace(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    def progress(self, id: str) -> dict[str, Any]:
        """The progress of a job as last saved, or an empty dict."""
        try:
            with open(self.shown(id, PROGRESS), "rb") as file:
                found = json.loads(file.read(_MAX_PROGRESS))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def progress_at(self, id: str) -> float:
        """The time at which the progress of a job was last saved, in seconds since 1970; 0 if it never was."""
        try:
            return self.shown(id, PROGRESS).stat().st_mtime
        except OSError:
            return 0.0

    def write_pull_progress(self, model: str, done: int, total: int | None) -> None:
        """Saves how many bytes of a model are downloaded. Queued jobs of the model are shown as waiting for it."""
        with suppress(OSError):
            place = self.pull_file(model)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._put(place, json.dumps({"index": done, "total": total or 0}).encode("ascii"))

    def pulling(self, model: str) -> dict[str, int]:
        """Downloaded bytes of a model (`index`) and their total (`total`), or an empty dict without a download."""
        try:
            found = json.loads(self.pull_file(model).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def end_pull(self, model: str = "") -> None:
        """Removes the download progress of one model, or of all."""
        for path in [self.pull_file(model)] if model else [*(self.root / _PULLS).glob("*.json")]:
            with suppress(OSError):
                path.unlink()

    def pull_file(self, model: str) -> Path:
        """Path of a model's download progress."""
        return self.root / _PULLS / f"{Path(model).name}.json"

    def watch(self, id: str) -> None:
        """Notes that a caller is watching the previews of a job now, so that previews may take more of its time."""
        with suppress(OSError, OutputError):
            (self.made(id) / WATCHED).touch()

    def watched(self, id: str) -> bool:
        """Whether a caller watched the previews of a job within the last seconds."""
        try:
            return time.time() - os.stat(self.of(id) / WATCHED).st_mtime < WATCHING
        except OSError:
            return False

    def preview(self, id: str) -> bytes | None:
        """The newest preview of a job, or None."""
        with suppress(OSError):
            return self.shown(id, PREVIEW).read_bytes()
        return None

    def log(self, id: str, text: str) -> None:
        """Appends lines to a job's log, each with the time."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError, OutputError), open(self.made(id) / LOG, "a", encoding="utf-8") as file:
            file.write("".join(f"{stamp} {line}\n" for line in text.splitlines()))

    def read_log(self, id: str) -> str:
        """The log of a job's attempts, or ""."""
        with suppress(OSError):
            return self.shown(id, LOG).read_text(encoding="utf-8", errors="replace")
        return ""

    def tidy(self, id: str, attempt: int) -> None:
        """Removes what killed earlier attempts left behind: half-written files and films that were never settled.

        Only for the holder of the job's lease: half-written files of a running attempt would be removed too.
        """
        with suppress(OSError):
            for path in list(self.of(id).iterdir()):
                film = _FILM.match(path.name)
                if path.name.startswith(".") or (film is not None and int(film[1]) < attempt):
                    path.unlink(missing_ok=True)

    def gather(self, jobs: Sequence[Job]) -> str:
        """Starts a batch of these jobs and returns its id. The batch is on disk then. Raises OutputError, OSError."""
        batch = new_id(_BATCH)
        text = json.dumps([job.to_row() for job in jobs]).encode("ascii")
        replace_whole(self.made(batch) / _JOBS, lambda draft: draft.write_bytes(text))
        for job in jobs:
            self.leave(job.id)
            self.made(job.id)
            self._pointer(job.id).write_text(batch, encoding="ascii")
            (self.of(batch) / job.id).touch()
        return batch

    def batch(self, id: str) -> tuple[str, list[Job]]:
        """The id of a job's batch and the jobs that it began with, as they were then; "" and [] without a batch."""
        with suppress(OSError, ValueError, KeyError, RequestError):
            batch = self._batch_of(id)
            rows = json.loads((self.of(batch) / _JOBS).read_bytes())
            return batch, [Job.from_row(row) for row in rows]
        return "", []

    def _pointer(self, id: str) -> Path:
        return self.of(id) / _BATCH

    def _batch_of(self, id: str) -> str:
        """The id of a job's batch, or ""."""
        with suppress(OSError, UnicodeDecodeError):
            return self._pointer(id).read_text(encoding="ascii")
        return ""

    def leave(self, id: str) -> None:
        """Takes a job out of its batch; the last job to leave removes the batch."""
        with suppress(OSError, RequestError):
            batch = self._batch_of(id)
            (self.of(batch) / id).unlink(missing_ok=True)
            self._pointer(id).unlink()
            if not self.members(batch):
                self.clear(batch)

    def members(self, batch: str) -> list[str]:
        """The jobs that may still resume from a batch's checkpoint."""
        with suppress(OSError):
            return sorted(path.name for path in self.of(batch).iterdir() if ID.fullmatch(path.name))
        return []

    def forget(self, id: str) -> None:
        """Removes the saved state of a job: its checkpoint, those of retries with other seeds, a sequence's pictures,
        finished shots, and a training's checkpoints and latents.
        """
        self.leave(id)
        for name in _SCRATCH:
            for place in (self.of(id) / TUNE).glob(f"*/{name}"):
                shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            for path in [self.checkpoint(id), *self.of(id).glob(f"{_TRY}*")]:
                path.unlink(missing_ok=True)
        for place in (self.pictures(id), self.takes(id)):
            shutil.rmtree(place, ignore_errors=True)

    def attempt(self, id: str, key: str) -> Path:
        """Path of the checkpoint of a retry with another seed; `key` is the key of its Plan."""
        return self.made(id) / f"{_TRY}{key[:16]}.safetensors"

    def clear(self, id: str) -> int:
        """Removes the directory of a job or a batch, and its LoRA from the owner's folder. Returns the bytes freed."""
        self.leave(id)
        if (lora := self._published(id)) is not None:
            lora.unlink(missing_ok=True)
        place = self.of(id)
        size = _size(place)
        shutil.rmtree(place, ignore_errors=True)
        return size

    def ids(self) -> list[str]:
        """Ids of all jobs and batches that have a directory."""
        return sorted(place.name for place in self.root.glob("??/*") if ID.fullmatch(place.name))

    def size(self) -> int:
        """Total size of all files in bytes."""
        return _size(self.root)


def _equal(source: Path, path: Path) -> bool:
    """Whether two files are the same, or have the same content."""
    return os.path.samefile(source, path) or filecmp.cmp(source, path, shallow=False)


def _size(place: Path) -> int:
    total = 0
    for directory, folders, names in os.walk(place):
        if Path(directory) == place and LORAS in folders:
            folders.remove(LORAS)  # hard links to files that are counted with their jobs
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total
