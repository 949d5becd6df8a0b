"""Health, readiness and figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.live import Live, live

from flickbook.errors import StoreError
from flickbook.jobs.workers.roster import Roster
from flickbook.server.operations import health


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(health, "_FRESH", 0.0)
    with live(tmp_path, workers=2, alive=lambda: 1) as found:
        yield found


def figures(service: Live, **options: dict[str, str]) -> dict[tuple[str, ...], float]:
    """The figures by their name and the values of their labels."""
    answer = service.get("/metrics", **options)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_healthz_and_readyz_of_a_working_service_are_200(service: Live) -> None:
    assert service.get("/healthz").json() == {"live": True}
    ready = service.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "store": True, "files": True, "workers": {"wanted": 2, "alive": 1}}


def test_workers_of_other_machines_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service on a Ray cluster has no workers of its own: its one process drives those of the cluster."""
    monkeypatch.setattr(health, "_FRESH", 0.0)
    with live(tmp_path, workers=8, cluster="auto") as service:
        assert service.get("/readyz").json()["workers"] == {"wanted": 8, "alive": 0}
        roster = Roster(service.service.store)
        for name in ("one:1:0", "two:1:0", "two:2:0"):
            service.ask(roster.publish(name, 1))
        assert service.get("/readyz").json()["workers"] == {"wanted": 8, "alive": 3}
        assert figures(service)[("flickbook_workers",)] == 3
        service.ask(roster.drop("one:1:0"))
        assert service.get("/readyz").json()["workers"] == {"wanted": 8, "alive": 2}


def test_readyz_is_503_when_the_store_fails(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StoreError("/secret/place.db", "disk I/O error", "see the disk")

    for name in ("counts", "get", "find", "notes"):
        monkeypatch.setattr(service.service.store, name, broken)
    assert service.get("/healthz").status_code == 200
    ready = service.get("/readyz")
    assert (ready.status_code, ready.json()["store"], ready.json()["ready"]) == (503, False, False)
    refused = service.get(f"/api/v1/jobs/job_{'0' * 26}")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "store" and "secret" not in refused.text
    assert int(refused.headers["retry-after"]) > 0


def test_readyz_is_503_when_files_cannot_be_written(service: Live, tmp_path: Path) -> None:
    service.service.artifacts.root = tmp_path / "flickbook.db" / "inside-a-file"
    ready = service.get("/readyz")
    assert (ready.status_code, ready.json()["files"]) == (503, False)


def test_job_metrics_come_from_the_store(service: Live) -> None:
    assert figures(service)["flickbook_jobs", "queued"] == 0
    service.job(), service.job()
    done = service.job()
    times = {"started_at": done.created_at + 3, "finished_at": done.created_at + 10}
    service.ask(service.service.store.change(done.id, ("queued",), {"state": "completed", **times}))
    found = figures(service)
    assert (found["flickbook_jobs", "queued"], found["flickbook_jobs", "completed"]) == (2, 1)
    assert found[("flickbook_workers",)] == 1
    assert found["flickbook_queue_wait_seconds", "0.5"] == pytest.approx(3)
    assert found["flickbook_job_duration_seconds", "0.95"] == pytest.approx(7)


def test_request_metrics_are_labelled_by_route_template(service: Live) -> None:
    for number in range(3):
        service.get(f"/api/v1/jobs/job_{number:026}")
    service.get("/no/such/place")
    found = figures(service)
    assert found["flickbook_requests_total", "GET", "/api/v1/jobs/{id}", "404"] == 3
    assert found["flickbook_requests_total", "GET", "none", "404"] == 1
    assert found["flickbook_request_seconds_count", "/api/v1/jobs/{id}"] == 3
    assert not [labels for labels in found if "job_0" in "".join(labels)]


def test_metrics_need_the_scope_admin(service: Live) -> None:
    _, low = service.key("low")
    _, high = service.key("high", "admin")
    assert [service.get("/metrics", headers=each).status_code for each in ({}, low, high)] == [401, 403, 200]
