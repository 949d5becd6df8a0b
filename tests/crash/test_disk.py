"""A disk that is full, closed or failing: the job says so, the worker goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import disk
from tests.crash.ward import Ward


@pytest.mark.slow
@pytest.mark.parametrize("kind", disk.KINDS)
def test_the_worker_goes_on(ward: Ward, tmp_path: Path, kind: str) -> None:
    found = disk.faulty(ward, tmp_path, (kind,), ("write",))
    if kind in found.skipped:
        pytest.skip(found.skipped[kind])
    assert found.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", disk.KINDS)
def test_at_every_phase(ward: Ward, tmp_path: Path, kind: str) -> None:
    found = disk.faulty(ward, tmp_path, (kind,))
    if kind in found.skipped:
        pytest.skip(found.skipped[kind])
    assert found.faults == [] and set(found.ended[kind]) == set(disk.PHASES)
    if kind == "full":
        assert "no space left" in found.ended[kind]["write"]
    if kind == "read-only":
        assert "ermission" in found.ended[kind]["write"]


@pytest.mark.slow
def test_a_store_that_fails_at_any_call_costs_no_job(ward: Ward, tmp_path: Path) -> None:
    found = disk.every_call(ward, tmp_path, every=3)
    assert found.faults == [] and found.calls > 8
