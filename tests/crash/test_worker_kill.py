"""Workers are killed at random instants: `python -m tests.crash` does it a thousand times."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import worker_kill
from tests.crash.ward import Ward

SEED = 5


@pytest.mark.slow
def test_no_kill_of_a_worker_loses_doubles_or_blocks_a_job(ward: Ward, tmp_path: Path) -> None:
    found = worker_kill.run(ward, tmp_path / "kills", 6, SEED, lease=1.0, beat=0.2)
    assert found.found.faults == []
    assert sum(found.kills.values()) >= 6 and found.found.completed + found.found.given_up == found.jobs


@pytest.mark.trial
def test_nor_do_sixty(ward: Ward, tmp_path: Path) -> None:
    found = worker_kill.run(ward, tmp_path / "kills", 60, SEED + 1)
    assert found.found.faults == []
    assert found.found.went_on > 0, "no film went on from a checkpoint"
    assert set(found.kills) >= {"load", "encode", "denoise", "decode", "write"}


@pytest.mark.trial
def test_nor_under_the_real_lease(ward: Ward, tmp_path: Path) -> None:
    found = worker_kill.run(ward, tmp_path / "kills", 4, SEED + 2, lease=30.0, beat=5.0)
    assert found.found.faults == [] and max(found.requeued, default=0.0) <= 35.0
