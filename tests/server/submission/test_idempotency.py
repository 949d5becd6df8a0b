"""One rule for every POST that makes or changes something: a key and a body act once, for one owner and route."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

from flickbook.server.submission import idempotency
from flickbook.store.base import Query

PROMPT = {"prompt": "a red circle", "num_frames": 4, "num_inference_steps": 2}
#: Every route that makes jobs at once, a body, and another one.
ROUTES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/api/v1/jobs", PROMPT, PROMPT | {"seed": 8}),
    ("/api/v1/jobs/{id}/again", {"seed": 5}, {"seed": 6}),
    ("/api/v1/drafts", PROMPT | {"seeds": [5, 3]}, PROMPT | {"seeds": [3, 5]}),
    (
        "/api/v1/sequences",
        {"prompts": ["a red circle", "a blue square"]},
        {"prompts": ["a red circle", "a red square"]},
    ),
    ("/api/v1/batches", {"rows": [PROMPT, PROMPT]}, {"rows": [PROMPT, PROMPT, PROMPT]}),
    ("/v1/videos", PROMPT, PROMPT | {"seed": 8}),
    ("/v1/videos/{video}/remix", {"prompt": "a blue circle"}, {"prompt": "a green circle"}),
]
#: Every route that sets a state of a queued job, a body, another one, and the field that shows the state.
STATES: list[tuple[str, dict[str, Any] | None, dict[str, Any], str]] = [
    ("/api/v1/jobs/{id}/cancel", None, {"now": True}, "state"),
    ("/api/v1/jobs/{id}/pause", None, {"now": True}, "state"),
    ("/api/v1/jobs/{id}/reorder", {"before": None}, {"before": "{other}"}, "place"),
    ("/api/v1/jobs/{id}/favourite", {"favourite": True}, {"favourite": False}, "favourite"),
    ("/api/v1/jobs/{id}/priority", {"priority": -1}, {"priority": -2}, "priority"),
    ("/v1/videos/{video}/cancel", None, {"now": True}, "status"),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path, webhook_hosts=("hooks.example.com",)) as found:
        yield found


def jobs(service: Live) -> set[str]:
    return {job.id for job in service.ask(service.service.store.find(Query(limit=1000)))}


def ids(answer: Any) -> list[str]:
    body = answer.json()
    assert answer.status_code in (200, 201), body
    return [each["id"] for each in body.get("data", [body])]


def path_of(service: Live, route: str) -> str:
    """The path of a route, with the id of a job that is there."""
    id = str(service.post("/api/v1/jobs", json=QUICK).json()["id"])
    return route.format(id=id, video=id.replace("job_", "video_"))


@pytest.mark.parametrize(("route", "body", "other"), ROUTES)
def test_an_idempotency_key_belongs_to_one_body_and_one_response(
    service: Live, route: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    path, head = path_of(service, route), {"idempotency-key": "yy"}
    first = ids(service.post(path, json=body, headers=head))
    there = jobs(service)
    assert ids(service.post(path, json=body, headers=head)) == first
    refused = service.post(path, json=other, headers=head)
    fault = refused.json()["error"]
    assert (refused.status_code, fault["code"]) == (422, "idempotency_key_reused")
    assert fault.get("field", fault.get("param")) == "Idempotency-Key"
    assert jobs(service) == there


@pytest.mark.parametrize(("route", "body", "other", "field"), STATES)
def test_a_state_is_set_once_under_one_key(
    service: Live, route: str, body: dict[str, Any] | None, other: dict[str, Any], field: str
) -> None:
    path, second = path_of(service, route), str(service.post("/api/v1/jobs", json=QUICK).json()["id"])
    other = {name: second if value == "{other}" else value for name, value in other.items()}
    (_, mine), (_, theirs) = service.key("mine", "admin"), service.key("theirs", "read", "create")
    head = mine | {"idempotency-key": "yy"}
    first = service.post(path, json=body, headers=head)
    assert first.status_code == 200, first.text
    assert service.post(path, json=other, headers=head).json()["error"]["code"] == "idempotency_key_reused"
    assert service.post(path, json=body, headers=head).json()[field] == first.json()[field]
    assert service.post(path, json=body, headers=theirs | {"idempotency-key": "yy"}).status_code == 404


def test_a_delayed_retry_does_not_undo_what_was_set_since(service: Live) -> None:
    path, head = path_of(service, "/api/v1/jobs/{id}/favourite"), {"idempotency-key": "yy"}
    assert service.post(path, json={"favourite": True}, headers=head).json()["favourite"]
    assert not service.post(path, json={"favourite": False}).json()["favourite"]
    assert not service.post(path, json={"favourite": True}, headers=head).json()["favourite"]


def test_a_pull_is_bound_to_its_body(service: Live) -> None:
    path, head = "/api/v1/models/builtin/pull", {"idempotency-key": "yy"}
    first = service.post(path, headers=head)
    assert first.status_code == 202 and service.post(path, headers=head).json() == first.json()
    assert service.post(path, json={"again": True}, headers=head).status_code == 422
    assert service.post("/api/v1/models/nothing/pull", headers=head).status_code == 404


def test_idempotency_keys_are_separate_per_route_and_owner(service: Live) -> None:
    batch = ids(service.post("/api/v1/batches", json={"rows": [PROMPT]}, headers={"idempotency-key": "yy"}))
    for key in ("yy", "yy/0"):
        assert ids(service.post("/api/v1/jobs", json=PROMPT, headers={"idempotency-key": key})) != batch
    (_, mine), (_, theirs) = service.key("mine", "read", "create"), service.key("theirs", "read", "create")
    made = [
        ids(service.post("/api/v1/jobs", json=PROMPT, headers=who | {"idempotency-key": "k"})) for who in (mine, theirs)
    ]
    assert made[0] != made[1]


@pytest.mark.slow
def test_forms_are_compared_by_fields_and_files(service: Live) -> None:
    def sent(table: bytes, name: str = "a.csv") -> Any:
        parts = {"request": (None, "{}"), "file": (name, table, "text/csv")}
        return service.post("/api/v1/batches", files=parts, headers={"idempotency-key": "form"})

    first = ids(sent(b"prompt\na red circle\n"))
    assert ids(sent(b"prompt\na red circle\n")) == first, "its boundary is another, its content is not"
    assert sent(b"prompt\na blue circle\n").status_code == 422


def test_a_refused_request_does_not_use_up_its_key(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"idempotency-key": "later"}
    assert service.post("/api/v1/jobs", json={"prompt": "a", "num_frames": 9999}, headers=head).status_code == 400
    monkeypatch.setattr("flickbook.jobs.queue.Queue.submit.__defaults__", (0,))
    assert service.post("/api/v1/jobs", json={"prompt": "b"}, headers=head).status_code == 429
    monkeypatch.undo()
    assert service.post("/api/v1/jobs", json=PROMPT, headers=head).status_code == 201


def test_a_repeated_request_finds_the_jobs_stored_before_a_crash(service: Live) -> None:
    """The service was killed after the jobs were kept and before their ids were."""
    head, body = {"idempotency-key": "crash"}, {"rows": [PROMPT, PROMPT]}
    first = ids(service.post("/api/v1/batches", json=body, headers=head))
    (note,) = service.ask(service.service.store.notes("idempotency"))
    record = json.loads(note.body) | {"jobs": []}
    service.ask(service.service.store.put(note.model_copy(update={"body": json.dumps(record)})))
    assert ids(service.post("/api/v1/batches", json=body, headers=head)) == first


def test_finishing_a_draft_twice_with_one_key_creates_one_job(service: Live) -> None:
    (draft,) = ids(service.post("/api/v1/drafts", json=PROMPT | {"seeds": [5]}))
    settled(service, draft)
    head, path = {"idempotency-key": "yy"}, "/api/v1/drafts/finish"
    first = ids(service.post(path, json={"ids": [draft]}, headers=head))
    assert ids(service.post(path, json={"ids": [draft]}, headers=head)) == first


def test_an_idempotency_key_is_kept_for_its_jobs_and_at_least_a_day(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, head, now = service.service.store, {"idempotency-key": "old"}, time.time()
    (job,) = ids(service.post("/api/v1/jobs", json=PROMPT, headers=head))
    monkeypatch.setattr(idempotency.time, "time", lambda: now + idempotency.KEPT + 1)
    assert service.ask(idempotency.forget(store)) == 0
    assert service.delete(f"/api/v1/jobs/{job}").status_code == 200
    assert service.ask(idempotency.forget(store)) == 0
    monkeypatch.setattr(idempotency.time, "time", lambda: now + 2 * idempotency.KEPT + 2)
    assert service.ask(idempotency.forget(store)) == 1
    assert service.ask(store.notes("idempotency")) == []


@pytest.mark.slow
def test_webhooks_and_links_are_created_once_per_key(service: Live) -> None:
    (job,) = ids(service.post("/api/v1/jobs", json=QUICK))
    head = {"idempotency-key": "yy"}
    hook = {"url": "https://hooks.example.com/a", "event_types": ["job.completed"]}
    for path, body, other in (
        ("/api/v1/webhooks", hook, hook | {"name": "b"}),
        (f"/api/v1/jobs/{job}/links", {}, {"seconds": 60}),
    ):
        first = service.post(path, json=body, headers=head)
        assert first.status_code in (200, 201), first.text
        assert service.post(path, json=body, headers=head).json() == first.json()
        assert service.post(path, json=other, headers=head).status_code == 422
    assert len(service.get("/api/v1/webhooks").json()["data"]) == 1
    refused = service.post("/api/v1/webhooks", json={"url": "https://127.0.0.1/"}, headers={"idempotency-key": "z"})
    assert refused.status_code == 400
    assert service.post("/api/v1/webhooks", json=hook, headers={"idempotency-key": "z"}).status_code == 201


def test_a_job_is_retried_once_under_one_key(service: Live) -> None:
    (job,) = ids(service.post("/api/v1/jobs", json=PROMPT))
    path, head = f"/api/v1/jobs/{job}/retry", {"idempotency-key": "yy"}
    assert service.post(path, headers=head).status_code == 400, "it is not over"
    service.post(f"/api/v1/jobs/{job}/cancel")
    assert service.post(path, headers=head).json()["state"] == "queued"
    service.post(f"/api/v1/jobs/{job}/cancel")
    assert service.post(path, headers=head).json()["state"] == "cancelled"
