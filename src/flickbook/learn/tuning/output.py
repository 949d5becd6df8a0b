"""The output directory of a training: it belongs to one training, and one process at a time writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from filelock import FileLock, Timeout

from flickbook.errors import OutputError
from flickbook.learn.tuning.record import RECORD

#: Shared storage leaves out files whose names begin with a dot.
_LOCK: Final = ".tune.lock"
#: Seconds between two looks at a directory that another training holds.
_LOOK: Final = 0.2


def check_output(output: Path) -> None:
    """Raise OutputError if the output exists and is not the directory of a training."""
    if output.exists() and not output.is_dir():
        raise OutputError(output, "is not a directory", "choose another output directory")
    others = output.is_dir() and any(path.name != _LOCK for path in output.iterdir())
    if others and not (output / RECORD).is_file():
        raise OutputError(output, "holds other files", "choose another output directory")


def check_free(output: Path) -> None:
    """Raise OutputError if a training writes to the directory now."""
    if (output / _LOCK).exists():
        with alone(output):
            pass


@contextmanager
def alone(output: Path, wait: Callable[[], bool] = lambda: False, accelerator: Any = None) -> Iterator[None]:
    """Hold an existing directory, as long as this process lives. Of several processes the first holds it for all.

    While another training holds it, `wait` is asked again and again; raises OutputError once it returns False.
    """
    lock = FileLock(output / _LOCK)
    held = (accelerator is None or accelerator.is_main_process) and _acquired(lock, wait)
    if accelerator:  # all processes must decide the same
        held = bool(accelerator.reduce(torch.tensor(float(held), device=accelerator.device), "sum"))
    if not held:
        remedy = "wait until that one has ended, or choose another output directory"
        raise OutputError(output, "another training is writing to this directory", remedy)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, wait: Callable[[], bool]) -> bool:
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK)
        except Timeout:
            if not wait():
                return False
    return True
