"""Many processes on one queue, and processes that were stopped past their leases."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import claims
from tests.crash.ward import Ward

SEED = 7


@pytest.mark.slow
def test_no_job_is_claimed_twice(ward: Ward, tmp_path: Path) -> None:
    assert claims.rush(ward, tmp_path / "rush", 80, 6).faults == []


@pytest.mark.trial
def test_nor_by_sixteen_processes(ward: Ward, tmp_path: Path) -> None:
    assert claims.rush(ward, tmp_path / "rush", 1000, 16).faults == []


@pytest.mark.slow
def test_who_was_stopped_past_its_lease_is_refused(ward: Ward, tmp_path: Path) -> None:
    found = claims.stopped_holders(ward, tmp_path / "holders", 12, 6, SEED)
    assert found.faults == [] and found.tried >= 12 and found.refused == found.tried


@pytest.mark.trial
def test_and_leaves_no_film_behind(ward: Ward, tmp_path: Path) -> None:
    found = claims.stopped_workers(ward, tmp_path / "workers", 10, SEED)
    assert found.faults == [] and (found.tried, found.refused) == (10, 10)
