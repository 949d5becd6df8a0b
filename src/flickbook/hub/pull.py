"""Downloads a model's files from the Hugging Face hub into its standard cache.

huggingface_hub talks to the hub and honours HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and HF_ENDPOINT. This module decides
which files are downloaded: configurations, vocabularies and safetensors, or PyTorch checkpoints if a repository has
no safetensors (`checkpoint.py` reads them without executing them). It resumes interrupted downloads of large files,
checks their hashes against those that the repository lists, and explains errors.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from flickbook.errors import Cancelled, HubError, MissingExtra
from flickbook.files import existing
from flickbook.hub.find import cache_folder
from flickbook.hub.manifest import HashCache

OnBytes = Callable[[int, int], None]

#: Written last: a model with an index is complete.
_INDEX = ("model_index.json", "modular_model_index.json", "config.json")
#: Small files that describe networks, tokenizers and schedulers.
_PLAIN = (".json", ".txt", ".model", ".md", ".jinja")
_WEIGHTS = ".safetensors"
_CHECKPOINTS = (".ckpt", ".bin", ".pt", ".pth")
_AGAIN = "pull again: it goes on where it was"
#: Concurrent downloads of large files.
_AT_ONCE = 4
#: Seconds between two checks of a file that another process downloads.
_LOOK = 0.5
#: Bytes that must stay free on the disk.
_MARGIN = 256 << 20


@dataclass(frozen=True)
class File:
    """One file of a repository; `sha256` is known for large files only."""

    name: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Pulled:
    """A downloaded model: its directory, commit and files."""

    directory: Path
    revision: str
    files: tuple[File, ...]


def choose(files: Sequence[File], variant: str = "", only: Sequence[str] = ()) -> list[File]:
    """The files to download: descriptions, and one set of weights per folder.

    A set with `variant` in its names (`.fp16.`) is preferred to one without. Checkpoints that need unpickling are
    chosen only if a folder has no safetensors. `only` limits all files to paths that match one of its patterns.
    """
    chosen: list[File] = []
    folders: dict[str, list[File]] = {}
    for file in files:
        if only and not any(fnmatch(file.name, pattern) for pattern in only):
            continue
        path = PurePosixPath(file.name)
        if any(part.startswith(".") or part == ".." for part in path.parts) or path.is_absolute():
            continue
        if path.suffix in (_WEIGHTS, *_CHECKPOINTS):
            folders.setdefault(str(path.parent), []).append(file)
        elif path.suffix in _PLAIN:
            chosen.append(file)
    for inside in folders.values():
        safe = [file for file in inside if file.name.endswith(_WEIGHTS)]
        chosen += _one_set(safe or inside, variant)
    return sorted(chosen, key=lambda file: file.name)


def _one_set(files: list[File], variant: str) -> list[File]:
    """The files of one variant: `variant` if there are any, else the plain ones."""

    def variant_of(file: File) -> str:
        # diffusion_pytorch_model.fp16.safetensors, model.fp16-00001-of-00002.safetensors
        stem = PurePosixPath(file.name).stem.partition(".")[2]
        return stem.partition("-")[0]

    for preferred in (variant, ""):
        found = [file for file in files if variant_of(file) == preferred]
        if found:
            return found
    return files


def listing(repo: str, revision: str) -> tuple[str, list[File]]:
    """The commit of `revision` and the repository's files. Raises HubError."""
    with _explained(repo, revision) as hub:
        from huggingface_hub.hf_api import RepoFile

        api = hub.HfApi(library_name="flickbook")
        info = api.model_info(repo, revision=revision)
        entries = api.list_repo_tree(repo, recursive=True, revision=info.sha)
        files = [
            File(entry.path, entry.size, _digest(repo, entry.lfs.sha256) if entry.lfs is not None else "")
            for entry in entries
            if isinstance(entry, RepoFile)
        ]
    return str(info.sha), files


def _digest(repo: str, listed: str) -> str:
    """Checks a listed SHA-256, which becomes a file name."""
    if not re.fullmatch("[0-9a-f]{64}", listed):
        raise HubError(repo, "lists a file under no SHA-256", "check HF_ENDPOINT")
    return listed


def pull(
    repo: str,
    revision: str = "main",
    variant: str = "",
    only: Sequence[str] = (),
    on_bytes: OnBytes | None = None,
    weights: bool = True,
) -> Pulled:
    """Downloads missing files, and resumes interrupted downloads.

    `on_bytes(done, total)` is called while large files arrive. Raises HubError for a repository that is missing,
    gated, unreachable or, with `weights`, has no weights; for a full disk; and for a file with a wrong hash, which
    is deleted.
    """
    commit, chosen, missing = _selected(repo, revision, variant, only, weights)
    with _explained(repo, revision) as hub:
        # Files with equal content are one file in the cache.
        large = list({file.sha256: file for file in missing if file.sha256}.values())
        blobs = cache_folder(repo) / "blobs"
        check_room(repo, blobs, sum(file.size - _held(blobs, file) for file in missing))
        count = _Count(sum(file.size for file in large), on_bytes)
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            for done in [pool.submit(_large, repo, commit, file, count) for file in large]:
                done.result()
        finally:
            # Do not wait for gigabytes after an error or Ctrl-C.
            count.stopped = True
            pool.shutdown(cancel_futures=True)
        # The small files, and the cache's links to the large ones; file names may contain pattern characters.
        names = [glob.escape(file.name) for file in chosen if file.name not in _INDEX]
        directory = Path(hub.snapshot_download(repo, revision=commit, allow_patterns=names, tqdm_class=_silent()))
        for file in chosen:
            if file.name in _INDEX:
                hub.hf_hub_download(repo, file.name, revision=commit)
        if revision != commit:  # the library records branches in the same way
            reference = directory.parents[1] / "refs" / revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(commit, encoding="ascii")
    return Pulled(directory, commit, tuple(chosen))


def remaining(
    repo: str, revision: str = "main", variant: str = "", only: Sequence[str] = (), weights: bool = True
) -> int:
    """Bytes that `pull` with these arguments still has to download. Raises HubError as it does."""
    _, _, missing = _selected(repo, revision, variant, only, weights)
    blobs = cache_folder(repo) / "blobs"
    return sum(file.size - _held(blobs, file) for file in missing)


def _selected(
    repo: str, revision: str, variant: str, only: Sequence[str], weights: bool
) -> tuple[str, list[File], list[File]]:
    """The commit, the files to download, and those that are not in the cache."""
    commit, files = listing(repo, revision)
    chosen = choose(files, variant, only)
    if weights and not any(file.name.endswith((_WEIGHTS, *_CHECKPOINTS)) for file in chosen):
        raise HubError(repo, "holds no weights", "check the repository's name")
    with _explained(repo, revision) as hub:
        missing = [f for f in chosen if not isinstance(hub.try_to_load_from_cache(repo, f.name, revision=commit), str)]
    return commit, chosen, missing


def check_room(name: str, place: Path, needed: int) -> None:
    """Raises HubError unless the disk of `place`, which may not exist yet, has room for `needed` bytes."""
    place = existing(place)
    free = shutil.disk_usage(place).free
    if needed and needed + _MARGIN > free:
        reason = f"needs {needed / 1e9:.1f} GB and {place} has {free / 1e9:.1f} GB free"
        raise HubError(name, reason, "free some space, or set HF_HOME to a larger disk")


def _large(repo: str, commit: str, file: File, count: _Count) -> None:
    """Downloads one large file to its place in the cache, where its name is its hash.

    The library restarts a file if its process was killed; this function keeps the bytes and downloads the rest. The
    file is renamed after its hash was checked, so a cached file is complete. If another process is downloading the
    file, this waits for it, and continues the download if that process ends early.
    """
    folder = cache_folder(repo)
    blobs, locks = folder / "blobs", folder.parent / ".locks" / folder.name
    for place in (blobs, locks):
        place.mkdir(parents=True, exist_ok=True)
    whole, part = blobs / file.sha256, blobs / f"{file.sha256}.part"
    with _locked(locks / f"{file.sha256}.part.lock", lambda: _held(blobs, file), count) as counted:
        if whole.exists():
            count.add(file.size - counted)
            return
        _transfer(repo, commit, file, part, count, counted)
        _named(repo, file, part, whole)


@contextmanager
def _locked(path: Path, held: Callable[[], int], count: _Count) -> Iterator[int]:
    """Holds a file lock. While another process holds it, counts the bytes that it downloads; yields their number."""
    from filelock import FileLock, Timeout

    lock, counted = FileLock(path), 0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK)
        except Timeout:
            now = held()
            count.add(now - counted)
            counted = now
    try:
        yield counted
    finally:
        lock.release()


def _transfer(repo: str, commit: str, file: File, part: Path, count: _Count, counted: int) -> None:
    """Downloads the rest of a file into `part`, of which `counted` bytes are already counted."""
    from huggingface_hub import constants, file_download, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    found = get_hf_file_metadata(hf_hub_url(repo, file.name, revision=commit))
    headers = build_hf_headers(library_name="flickbook")
    if urlsplit(found.location)[:2] != urlsplit(constants.ENDPOINT)[:2]:
        headers.pop("authorization", None)  # URLs of the storage behind the hub are signed
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as out:
        have = out.tell()
        count.add(have - counted)
        file_download.http_get(
            found.location,
            out,
            resume_size=have,
            headers=headers,
            expected_size=file.size,
            tqdm_class=_silent(count.add),
        )


def _named(repo: str, file: File, part: Path, whole: Path) -> None:
    found = HashCache().sha256(part)
    if found != file.sha256:
        part.unlink()
        reason = f"{file.name} is corrupt: SHA-256 should be {file.sha256}, is {found}"
        raise HubError(repo, reason, "it is deleted; pull again")
    part.replace(whole)


class _Count:
    """Counts the bytes of all large files, from several threads."""

    def __init__(self, total: int, on_bytes: OnBytes | None) -> None:
        self.done, self.total, self._on_bytes, self._lock = 0, total, on_bytes, Lock()
        self.stopped = False

    def add(self, count: float) -> None:
        if self.stopped:
            raise Cancelled
        with self._lock:
            self.done += int(count)
            if self._on_bytes is not None:
                self._on_bytes(self.done, self.total)


def _held(blobs: Path, file: File) -> int:
    """Bytes of a large file that are already in the cache."""
    for place in (blobs / file.sha256, blobs / f"{file.sha256}.part") if file.sha256 else ():
        if place.exists():
            return min(place.stat().st_size, file.size)
    return 0


def _silent(add: Callable[[float], None] | None = None) -> type[Any]:
    """A progress bar for the library that draws nothing and calls `add` with each chunk."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if add is not None and n:
                add(n)

    return Silent


@contextmanager
def _explained(repo: str, revision: str) -> Iterator[Any]:
    """The hub's library; its errors in the block become a HubError with a remedy."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "gen") from error
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        yield hub
    except errors.GatedRepoError as error:
        remedy = f"accept its licence at {page}, make a token in your account's settings, and set HF_TOKEN to it"
        raise HubError(repo, "gated: its publisher asks who downloads it", remedy) from error
    except errors.RepositoryNotFoundError as error:
        remedy = f"look at {page}; if it is private, set HF_TOKEN to a token that may read it"
        raise HubError(repo, "no such repository, or a private one", remedy) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(repo, f"has no revision {revision}", f"look at {page}/commits/main") from error
    except errors.HFValidationError as error:
        raise HubError(repo, "not the name of a repository", "write owner/name") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(repo, "the network is switched off by HF_HUB_OFFLINE", "unset it and pull again") from error
    except errors.LocalEntryNotFoundError as error:
        raise HubError(repo, "cannot be reached", f"check the network, and {_AGAIN}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise HubError(repo, f"the hub answered {status}", _AGAIN) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        raise HubError(
            repo, f"the transfer broke ({type(error).__name__})", f"check the network, and {_AGAIN}"
        ) from error
    except ValueError as error:  # a file too large for plain HTTP
        raise HubError(
            repo, f"cannot be pulled ({error})", "pull it with the hub's own tools, and use --model-dir"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)[:200]
        raise HubError(repo, f"the transfer broke ({reason})", f"check disk and network, and {_AGAIN}") from error
