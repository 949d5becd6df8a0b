"""The clocks that a store on one machine goes by; tests bring their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def _steady() -> float:
    """Seconds that no clock setting changes; where the system tells, those that it slept are counted."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _boot() -> str:
    """What tells one start of the machine from another: a steady clock begins anew with each."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return str(round(psutil.boot_time()))


@dataclass(frozen=True)
class Clocks:
    """`wall`: seconds since 1970, which people set. `steady`: seconds since the `boot`, which nobody does."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = _steady
    boot: Callable[[], str] = _boot
