"""Atomic replacement and hashing of files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` create a temporary file beside `path`, then rename it to `path`: readers never see a partial file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        write(Path(name))
        with open(name, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp creates files that only their owner can read.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def open_below(root: Path, path: Path) -> BufferedReader:
    """Open a regular file below `root` without following a symbolic link. Raises OSError for anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        facts = os.fstat(handle)
        # Checked after opening, so that a directory replaced in the meantime is detected.
        real = Path(os.path.realpath(path))
        if not stat.S_ISREG(facts.st_mode) or not real.is_relative_to(os.path.realpath(root)):
            raise FileNotFoundError(path)
        if not os.path.samestat(facts, os.stat(real)):
            raise FileNotFoundError(path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def link_new(source: Path, path: Path) -> bool:
    """Hard-link a file, or copy it where that is not possible; False if the name is taken. Raises OSError."""
    try:
        os.link(source, path)
        return True
    except FileExistsError:
        return False
    except OSError:
        if path.exists():
            return False
        replace_whole(path, lambda draft: shutil.copyfile(source, draft))
        return True


def link_or_copy(source: str, destination: str) -> str:
    """Hard-link a file, or copy it where that is not possible; a `copy_function` of `shutil.copytree`."""
    try:
        os.link(Path(source).resolve(), destination)
    except OSError:
        shutil.copyfile(source, destination)
    return destination


def existing(path: Path) -> Path:
    """Return the nearest existing directory or file among `path` and its parents."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a regular file, 64 hexadecimal digits. Raises OSError, also for pipes and devices."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_regular(path: str | Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading bytes. Raises OSError, also for pipes and devices."""
    # Opened without blocking: opening a FIFO would otherwise wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file
