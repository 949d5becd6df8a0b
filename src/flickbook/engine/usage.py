"""Measures each phase of a run: its seconds, and the peak memory of the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from flickbook.engine.memory import device
from flickbook.spec import Run, Step


class Meter:
    """Called with every Step of a run; measures time and memory, and passes the Step on to `on_step`."""

    def __init__(self, on_step: Callable[[Step], None] | None = None) -> None:
        self._on_step = on_step
        self.began, self._start = time.time(), time.perf_counter()
        self.first_preview: float | None = None
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        device.forget_peak()

    def __call__(self, step: Step) -> None:
        if step.preview is not None:
            self.shown()
        self.seconds[step.phase] = step.seconds
        self.memory[step.phase] = max(self.memory.get(step.phase, 0), device.peak_memory())
        if step.index == step.total:
            device.forget_peak()
        if self._on_step is not None:
            self._on_step(step)

    def shown(self) -> None:
        """Record that a preview or frames can be seen for the first time."""
        if self.first_preview is None:
            self.first_preview = round(time.perf_counter() - self._start, 3)

    def run(self, **fields: object) -> Run:
        """The Run from the meter's start until now; `fields` are its other fields."""
        first, last = (
            datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for at in (self.began, time.time())
        )
        peak = max(self.memory.values(), default=device.peak_memory())
        measured = {"seconds": dict(self.seconds), "peak_memory": dict(self.memory), "peak_memory_bytes": peak}
        return Run.of(**measured, first_preview=self.first_preview, started_at=first, finished_at=last, **fields)
