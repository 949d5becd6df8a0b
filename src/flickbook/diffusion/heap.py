"""Makes glibc keep freed memory while a film is computed, and return it to the system afterwards.

Each layer allocates what the previous one freed. By default glibc returns large blocks to the kernel at once, and the
kernel clears each page again: a million pages of 4 KiB in one step of text-to-video-ms-1.7b in float32.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
#: No separate mapping for large blocks, and nothing returned.
_KEEP: Final = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
#: The values that glibc adapts to by itself in a process that has freed a large block.
_RETURN: Final = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}

# Re-entrant: garbage collection while the lock is held may leave `reused` in the same thread.
_counting = threading.RLock()
_inside = 0


@contextmanager
def reused() -> Iterator[None]:
    """Keep freed memory in the process within the block, and return it to the system at the end.

    May be nested and entered by several threads; the last one to leave ends it. Affects no value, only speed and
    memory. Afterwards glibc's thresholds are the largest that it adapts to by itself, whatever they were before.
    Without glibc it does nothing.
    """
    global _inside
    counted = False
    try:
        with _counting:
            _inside, counted = _inside + 1, True
            if _inside == 1:
                _set(_KEEP)
        yield
    finally:
        with _counting:
            _inside -= counted
            if counted and _inside == 0:
                _set(_RETURN)
                give_back()


def give_back() -> None:
    """Return free memory between blocks in use to the system."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)


def _forked() -> None:
    """Reset the counter in a forked process: the films of its parent are not made here."""
    global _counting, _inside
    _counting = threading.RLock()
    if _inside:
        _inside = 0
        _set(_RETURN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
