"""Waiting for an event in a test. The limit only ends a test that hangs: no machine that works is as slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

#: Seconds.
PATIENCE: Final = 600.0


def until(event: Callable[[], Any], pause: float = 0.02) -> Any:
    """The first true value that `event` returns. Raises AssertionError after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not (found := event()):
        assert time.monotonic() < end, f"did not happen within {PATIENCE:g} s: {event}"
        time.sleep(pause)
    return found
