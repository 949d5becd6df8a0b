"""The clocks of a store on one machine; tests replace them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def _steady() -> float:
    """Seconds of a monotonic clock that includes sleep where the system supports it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _boot() -> str:
    """An id of the machine's current boot: a steady clock restarts with each."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return str(round(psutil.boot_time()))


@dataclass(frozen=True)
class Clocks:
    """`wall`: seconds since 1970, which users can set. `steady`: seconds since `boot`, which they cannot."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = _steady
    boot: Callable[[], str] = _boot
