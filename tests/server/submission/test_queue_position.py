"""At which place a job waits, and when it will be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.live import Live, live
from tests.server.settled import QUICK, claimed, settled

from flickbook.server.submission.queue_position import Line, Look

JOBS = "/api/v1/jobs"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as found:
        yield found


def made(service: Live) -> str:
    return str(service.post(JOBS, json=QUICK).json()["id"])


def look(service: Live, workers: int = 1) -> Look:
    """A new look at the line."""

    async def counted() -> int:
        return workers

    async def taken() -> Look:
        return await Line(service.service.queue, counted).look()

    return service.ask(taken())


def test_places_are_known_at_once_and_times_after_the_first_film(service: Live) -> None:
    first = made(service)
    assert look(service).places == {first: 1} and look(service).etas == {} and look(service).seconds is None
    settled(service, first)
    second, third = made(service), made(service)
    found = look(service)
    assert found.places == {second: 1, third: 2}
    own = found.etas[second]
    # The third waits for the second, which is as long.
    assert own > 0 and found.etas[third] == pytest.approx(2 * own) and found.seconds == pytest.approx(2 * own)
    assert look(service, workers=2).etas[third] == pytest.approx(1.5 * own)


def test_waiting_time_includes_the_remaining_time_of_the_running_job(service: Live) -> None:
    settled(service, made(service))
    running, waiting = made(service), made(service)
    own = look(service).etas[running]
    claimed(service, running)
    service.service.artifacts.write_progress(running, eta_seconds=100.0)
    assert look(service).etas == {waiting: pytest.approx(100.0 + own)}


def test_remaining_time_of_an_owner_counts_their_jobs_only(service: Live) -> None:
    settled(service, made(service))
    mine, others = made(service), [made(service) for _ in range(3)]
    for id in others:
        service.ask(service.service.store.change(id, ("queued",), {"owner": "other"}))
    found = look(service)
    assert found.owners == {"": pytest.approx(found.etas[mine]), "other": pytest.approx(found.etas[others[-1]])}
    assert found.seconds == pytest.approx(found.etas[others[-1]])


def test_a_draft_takes_less_time_than_its_film(service: Live) -> None:
    settled(service, made(service))
    whole, draft = made(service), str(service.post(JOBS, json={**QUICK, "kind": "draft", "until": 0.5}).json()["id"])
    found = look(service)
    assert 0 < found.etas[draft] - found.etas[whole] < found.etas[whole]
