"""Who is let in after things went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import access
from tests.crash.ward import Ward

SEED = 11


@pytest.mark.slow
def test_no_repair_opens_the_service(serving: Ward, tmp_path: Path) -> None:
    found = access.keys(serving, tmp_path, 8, SEED)
    assert found.faults == [] and found.trials == 8 and 0 < found.lost < found.keys


@pytest.mark.slow
def test_guesses_are_refused_and_the_right_password_is_not_told_apart(serving: Ward, tmp_path: Path) -> None:
    found = access.passwords(serving, tmp_path, 20, SEED)
    assert found.faults == [] and found.sent == 20 and found.right > 0
    assert found.verified < 10


@pytest.mark.trial
def test_two_hundred_damaged_stores(serving: Ward, tmp_path: Path) -> None:
    assert access.keys(serving, tmp_path, 200, SEED + 1).faults == []
