"""What a run took, phase by phase."""

from __future__ import annotations

import numpy as np

from flickbook.engine.memory import device
from flickbook.engine.usage import Meter
from flickbook.spec import Step

MIB = 2**20


def test_each_phase_has_its_own_peak() -> None:
    """A phase that held more before says nothing about one that came after it."""
    meter = Meter()
    large = np.ones(200 * MIB, np.uint8)
    meter(Step("denoise", 1, 1, 2.0))
    held = int(large[0])
    del large
    device.forget_peak()
    meter(Step("decode", 1, 2, 0.5))
    meter(Step("decode", 2, 2, 1.0))
    run = meter.run(notes=[f"held {held}"])
    assert run.seconds == {"denoise": 2.0, "decode": 1.0}
    assert run.peak_memory["denoise"] > run.peak_memory["decode"] + 150 * MIB
    assert run.peak_memory_bytes == run.peak_memory["denoise"]
    assert run.notes == ["held 1"] and run.started_at <= run.finished_at


def test_a_run_without_steps_has_a_peak() -> None:
    assert Meter().run().peak_memory_bytes > MIB


def test_the_first_preview_time_is_kept() -> None:
    meter = Meter()
    meter(Step("load", 1, 1, 0.1))
    assert meter.run().first_preview is None
    meter(Step("denoise", 1, 2, 0.1, preview=object()))
    first = meter.run().first_preview
    meter(Step("denoise", 2, 2, 0.2, preview=object()))
    meter.shown()
    assert first is not None and meter.run().first_preview == first
