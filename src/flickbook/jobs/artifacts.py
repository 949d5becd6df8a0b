"""The files of jobs: one directory for each, by its id, and nothing that a stranger named is ever part of a path.

<job>/progress.json       where it is; written over and over, whole, and never flushed to the disk
<job>/preview.webp        the film as it emerges, moving
<job>/checkpoint.safetensors     what it goes on from
<job>/try-….safetensors          the same of tries with other seeds
<job>/pictures/           those of a sequence so far, which it goes on from
<job>/given-…             what it begins from, as it was sent
<job>/film-<attempt>.mp4  what came out, and beside it its recipe
<job>/log.txt             what its attempts said
<job>/batch               the batch that it runs in with others
<batch>/jobs.json         the jobs that a batch began with, in its order
<batch>/<job>             empty, while that job may go on from the batch's state
<batch>/checkpoint.safetensors   the state of all of its films
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from flickbook.errors import OutputError, RequestError
from flickbook.files import replace_whole
from flickbook.store.base import ID, Job, new_id

PROGRESS: Final = "progress.json"
PREVIEW: Final = "preview.webp"
CHECKPOINT: Final = "checkpoint.safetensors"
LOG: Final = "log.txt"
PICTURES: Final = "pictures"
#: Also what the ids of batches begin with.
_BATCH: Final = "batch"
_JOBS: Final = "jobs.json"
_PULLS: Final = "pulls"
_TRY: Final = "try-"
_FILM: Final = re.compile(r"film-(\d+)")
_MAX_PROGRESS: Final = 1 << 16
_WATCHED: Final = "watched"
_WATCHING: Final = 10.0


class ArtifactStore:
    """The directories of jobs below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, id: str) -> Path:
        """The directory of a job. Raises RequestError for what is no id of one."""
        if not ID.fullmatch(id):
            raise RequestError("id", id, "no id of a job", "give one as `flickbook jobs list` shows it")
        return self.root / id[-2:] / id

    def made(self, id: str) -> Path:
        """The directory of a job, made if it was not there. Raises OutputError."""
        place = self.of(id)
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(
                place, error.strerror or str(error), "choose another jobs_dir, or free some space"
            ) from None
        return place

    def checkpoint(self, id: str) -> Path:
        """Where a job's state is kept while it runs."""
        return self.of(id) / CHECKPOINT

    def pictures(self, id: str) -> Path:
        """Where the pictures of a sequence are kept while it runs."""
        return self.of(id) / PICTURES

    def film(self, id: str, attempt: int, suffix: str) -> Path:
        """Where an attempt writes what it made: no two attempts write the same file."""
        return self.of(id) / f"film-{attempt}{suffix}"

    def tell(self, id: str, **progress: Any) -> None:
        """Say where a job is; it may be lost, so nothing that fails here matters."""
        with suppress(OSError, OutputError):
            self._put(self.made(id) / PROGRESS, json.dumps({**progress, "at": time.time()}).encode("ascii"))

    def show(self, id: str, preview: bytes) -> None:
        """Keep a job's newest preview, a moving WebP."""
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
        """Where a job is, as it was told last; nothing if it was not."""
        try:
            with open(self.of(id) / PROGRESS, "rb") as file:
                found = json.loads(file.read(_MAX_PROGRESS))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def tell_pull(self, model: str, done: int, total: int | None) -> None:
        """Say how many bytes of a model's files are downloaded; its queued jobs are shown as waiting for them."""
        with suppress(OSError):
            place = self.pull_file(model)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._put(place, json.dumps({"index": done, "total": total or 0}).encode("ascii"))

    def pulling(self, model: str) -> dict[str, int]:
        """The bytes of a model that are downloaded as `index`, and of all as `total`; empty without a download."""
        try:
            found = json.loads(self.pull_file(model).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def end_pull(self, model: str = "") -> None:
        """Say that the download of a model has ended, or that there is none at all."""
        for path in [self.pull_file(model)] if model else [*(self.root / _PULLS).glob("*.json")]:
            with suppress(OSError):
                path.unlink()

    def pull_file(self, model: str) -> Path:
        """Where the progress of a model's download is kept."""
        return self.root / _PULLS / f"{Path(model).name}.json"

    def watch(self, id: str) -> None:
        """Say that somebody looks at a job's previews now: while that is so, more of its time may go into them."""
        with suppress(OSError, OutputError):
            (self.made(id) / _WATCHED).touch()

    def watched(self, id: str) -> bool:
        """Whether somebody looked at a job's previews in the last seconds."""
        try:
            return time.time() - os.stat(self.of(id) / _WATCHED).st_mtime < _WATCHING
        except OSError:
            return False

    def preview(self, id: str) -> bytes | None:
        """A job's newest preview."""
        with suppress(OSError):
            return (self.of(id) / PREVIEW).read_bytes()
        return None

    def log(self, id: str, text: str) -> None:
        """Add lines to a job's log, with the time in front."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError, OutputError), open(self.made(id) / LOG, "a", encoding="utf-8") as file:
            file.write("".join(f"{stamp} {line}\n" for line in text.splitlines()))

    def read_log(self, id: str) -> str:
        """What a job's attempts said; "" if nothing."""
        with suppress(OSError):
            return (self.of(id) / LOG).read_text(encoding="utf-8", errors="replace")
        return ""

    def tidy(self, id: str, attempt: int) -> None:
        """Remove what killed attempts before this one left: half-written files, films that never counted.

        Only for who has the job: another's half-written files would go too.
        """
        with suppress(OSError):
            for path in list(self.of(id).iterdir()):
                film = _FILM.match(path.name)
                if path.name.startswith(".") or (film is not None and int(film[1]) < attempt):
                    path.unlink(missing_ok=True)

    def gather(self, jobs: Sequence[Job]) -> str:
        """Begin a batch of these jobs, which is on the disk when this returns; its id. Raises OutputError, OSError."""
        batch = new_id(_BATCH)
        text = json.dumps([job.to_row() for job in jobs]).encode("ascii")
        replace_whole(self.made(batch) / _JOBS, lambda draft: draft.write_bytes(text))
        for job in jobs:
            self.leave(job.id)
            (self.made(job.id) / _BATCH).write_text(batch, encoding="ascii")
            (self.of(batch) / job.id).touch()
        return batch

    def batch(self, id: str) -> tuple[str, list[Job]]:
        """The batch that a job is of, and the jobs that it began with, as they were then; "" and none without."""
        with suppress(OSError, ValueError, KeyError, RequestError):
            batch = (self.of(id) / _BATCH).read_text(encoding="ascii")
            rows = json.loads((self.of(batch) / _JOBS).read_bytes())
            return batch, [Job.from_row(row) for row in rows]
        return "", []

    def leave(self, id: str) -> None:
        """Take a job out of its batch, for which it has no more use; who leaves last removes it."""
        with suppress(OSError, ValueError, RequestError):
            pointer = self.of(id) / _BATCH
            batch = pointer.read_text(encoding="ascii")
            (self.of(batch) / id).unlink(missing_ok=True)
            pointer.unlink()
            if not self.members(batch):
                self.clear(batch)

    def members(self, batch: str) -> list[str]:
        """The jobs that may yet go on from a batch's state."""
        with suppress(OSError):
            return sorted(path.name for path in self.of(batch).iterdir() if ID.fullmatch(path.name))
        return []

    def forget(self, id: str) -> None:
        """Remove the states that a job went on from: of its film, of tries with other seeds, a sequence's pictures."""
        self.leave(id)
        with suppress(OSError):
            for path in [self.checkpoint(id), *self.of(id).glob(f"{_TRY}*")]:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.pictures(id), ignore_errors=True)

    def attempt(self, id: str, key: str) -> Path:
        """Where the state of a try with another seed is kept, by the `key` of its Plan."""
        return self.made(id) / f"{_TRY}{key[:16]}.safetensors"

    def clear(self, id: str) -> int:
        """Remove the directory of a job or of a batch; the bytes that this freed."""
        self.leave(id)
        place = self.of(id)
        size = _size(place)
        shutil.rmtree(place, ignore_errors=True)
        return size

    def ids(self) -> list[str]:
        """The jobs and the batches that have a directory."""
        return sorted(place.name for place in self.root.glob("??/*") if ID.fullmatch(place.name))

    def size(self) -> int:
        """Bytes of all files."""
        return _size(self.root)


def _size(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total
