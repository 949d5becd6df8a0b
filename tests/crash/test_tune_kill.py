"""A training that is killed again and again ends in the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import tune_kill
from tests.crash.ward import Ward


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_bytes(ward: Ward, tmp_path: Path) -> None:
    found = tune_kill.run(ward, tmp_path, 2, 1)
    assert found.faults == [] and found.kills >= 2 and found.trainings >= 1
