"""Memory that glibc is asked to keep while a film is computed, and to give back afterwards.

Each layer asks for what the one before it let go. Left to itself glibc returns large blocks to the kernel at once, and
the kernel clears each page anew: a million of them, 4 KiB each, in one step of text-to-video-ms-1.7b in float32.
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
#: No block by itself, nothing returned.
_KEEP: Final = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
#: What glibc comes to by itself in a process that has let go of a large block.
_RETURN: Final = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}

# Left again by what is collected while it is held.
_counting = threading.RLock()
_inside = 0


@contextmanager
def reused() -> Iterator[None]:
    """Inside, what is freed stays with the process for what is computed next; at the end it goes back to the system.

    May be nested and entered by several threads; the last one to leave ends it. It changes no value, only speed and
    memory. Afterwards glibc's thresholds are the largest that it comes to by itself, whatever they were; without glibc
    nothing happens.
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
    """Return to the system what was freed between what is kept."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)


def _forked() -> None:
    """No film of the process that this one was forked from is made here."""
    global _counting, _inside
    _counting = threading.RLock()
    if _inside:
        _inside = 0
        _set(_RETURN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
