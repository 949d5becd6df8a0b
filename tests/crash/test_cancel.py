"""A film that is cancelled at any step stops there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import cancel
from tests.crash.ward import Ward

SEED = 8


@pytest.mark.slow
def test_a_cancelled_film_stops_long_before_its_end(ward: Ward, tmp_path: Path) -> None:
    found = cancel.run(ward, tmp_path / "cancel", 1, SEED, latest=3)
    assert found.faults == [] and len(found.running) == len(found.queued) == 1


@pytest.mark.trial
def test_wherever_it_is(ward: Ward, tmp_path: Path) -> None:
    assert cancel.run(ward, tmp_path / "cancel", 20, SEED + 1).faults == []
