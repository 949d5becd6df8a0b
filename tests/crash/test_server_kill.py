"""What takes jobs in is killed mid-write: what it acknowledged is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import server_kill, shown
from tests.crash.ward import Ward

SEED = 6
pytest.importorskip("fastapi")


@pytest.mark.slow
def test_a_job_that_was_acknowledged_outlives_who_took_it(ward: Ward, tmp_path: Path) -> None:
    found = server_kill.queue(ward, tmp_path, 6, SEED)
    assert found.faults == [] and found.trials == 6 and found.acknowledged > 0


@pytest.mark.slow
def test_a_job_that_the_service_answered_with_outlives_it(serving: Ward, tmp_path: Path) -> None:
    found = server_kill.http_service(serving, tmp_path, 3, SEED, real_every=3)
    assert found.faults == [] and found.trials == 3 and found.acknowledged > 0
    assert len(found.real_starts) == 1


@pytest.mark.trial
def test_sixty_kills_of_each(ward: Ward, serving: Ward, tmp_path: Path) -> None:
    assert server_kill.queue(ward, tmp_path / "queue", 60, SEED + 1).faults == []
    found = server_kill.http_service(serving, tmp_path / "http", 60, SEED + 1)
    assert found.faults == [] and found.unanswered > 0, "no kill fell into a request"


@pytest.mark.trial
@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_ten_films_are_there_after_everything_was_killed_twice(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    found = shown.run(tmp_path / "shown", SEED)
    assert found.faults == []
    assert (found.films, found.equal) == (10, 10) and found.killed_running > 0
