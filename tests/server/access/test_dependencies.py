"""Who is let in, as whom, and who is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.live import Live, live

from flickbook.jobs import api_keys
from flickbook.server.access import rate_limits

READ, MAKE, ALL = "/api/v1/jobs", "/api/v1/nothing", "/metrics"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(api_keys, "FRESH", 0.0)
    with live(tmp_path) as found:
        yield found


def status(service: Live, path: str, **headers: str) -> int:
    ask = service.post if path == MAKE else service.get
    return ask(path, headers=headers).status_code


def test_without_keys_a_local_caller_may_do_everything(service: Live) -> None:
    for headers in ({}, {"authorization": "Bearer anything"}, {"authorization": "Basic x"}):
        assert status(service, READ, **headers) == 200
        assert status(service, ALL, **headers) == 200
        assert status(service, MAKE, **headers) == 404


def test_without_keys_forwarded_remote_requests_are_401(service: Live) -> None:
    assert status(service, READ, **{"x-forwarded-for": "127.0.0.1"}) == 200
    for headers in ({"x-forwarded-for": "127.0.0.1, 203.0.113.7"}, {"forwarded": "for=203.0.113.7"}):
        assert status(service, READ, **headers) == 401
    refused = service.get(READ, headers={"x-forwarded-for": "203.0.113.7"})
    assert refused.status_code == 401
    assert "flickbook keys create" in refused.json()["error"]["message"]


def test_every_request_needs_a_key_once_one_exists(service: Live) -> None:
    assert status(service, READ) == 200
    key, headers = service.key("laptop")
    assert status(service, READ, **headers) == 200
    for path in (READ, MAKE, ALL):
        refused = service.post(path) if path == MAKE else service.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith('Bearer realm="flickbook"')
    # Its end opens nothing.
    service.ask(service.guard.keys.revoke(key.id))
    assert status(service, READ) == 401
    assert status(service, READ, **headers) == 401


@pytest.mark.parametrize(
    ("scopes", "read", "make", "everything"),
    [
        (["read"], 200, 403, 403),
        (["create"], 403, 404, 403),
        (["read", "create"], 200, 404, 403),
        (["admin"], 200, 404, 200),
    ],
)
def test_a_key_is_limited_to_its_scopes(
    service: Live, scopes: list[str], read: int, make: int, everything: int
) -> None:
    _, headers = service.key("one", *scopes)
    assert [status(service, path, **headers) for path in (READ, MAKE, ALL)] == [read, make, everything]


@pytest.mark.parametrize("made", ["", "Bearer", "Basic {}", "{}", "Bearer {}x", "Bearer fb_", "bearer {}"])
def test_a_partial_or_changed_key_is_401(service: Live, made: str) -> None:
    _, headers = service.key("one")
    token = headers["authorization"].removeprefix("Bearer ")
    expected = 200 if made == "bearer {}" else 401
    assert status(service, READ, authorization=made.format(token)) == expected


def test_jobs_of_other_owners_are_404_except_for_an_admin(service: Live) -> None:
    _, ann = service.key("ann")
    _, bob = service.key("bob")
    _, root = service.key("root", "admin")
    job = service.job(owner="ann")
    answers = [service.get(f"{READ}/{job.id}", headers=each) for each in (ann, bob, root)]
    assert [each.status_code for each in answers] == [200, 404, 200]
    unknown = service.get(f"{READ}/job_{'0' * 26}", headers=bob)
    assert unknown.status_code == 404
    body = answers[1].json()["error"]["message"].replace(job.id, "ID")
    assert body == unknown.json()["error"]["message"].replace("job_" + "0" * 26, "ID")


def test_an_address_is_locked_out_after_many_bad_keys(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_FAILURES", 3)
    _, known = service.key("known")
    assert status(service, READ, **known) == 200
    _, other = service.key("other")
    bad = {"authorization": "Bearer fb_0000000000_" + "A" * 43}
    assert [status(service, READ, **bad) for _ in range(5)] == [401, 401, 401, 429, 429]
    assert status(service, READ, **other) == 429
    assert status(service, READ, **known) == 200
    assert status(service, "/healthz") == 200


def test_a_changing_forwarded_address_does_not_escape_the_lock(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_FAILURES", 3)
    service.key("one")
    bad = {"authorization": "Bearer fb_0000000000_" + "A" * 43}
    answers = [status(service, READ, **bad, **{"x-forwarded-for": f"203.0.113.{n}"}) for n in range(5)]
    assert answers == [401, 401, 401, 429, 429]


def test_forwarded_address_of_a_trusted_proxy_is_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_FAILURES", 3)
    monkeypatch.setenv("FLICKBOOK_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8")
    with live(tmp_path) as service:
        service.key("one")
        bad = {"authorization": "Bearer fb_0000000000_" + "A" * 43}
        answers = [status(service, READ, **bad, **{"x-forwarded-for": "203.0.113.1"}) for _ in range(4)]
        assert answers == [401, 401, 401, 429]
        assert status(service, READ, **bad, **{"x-forwarded-for": "203.0.113.2"}) == 401
        # What the client wrote itself stands before what the proxy added, and is not believed.
        assert status(service, READ, **bad, **{"x-forwarded-for": "203.0.113.9, 203.0.113.1"}) == 429


def test_a_request_counts_once_against_the_rate_limit(service: Live) -> None:
    key, headers = service.key("one", rate=2)
    # The door and the route both ask who it is.
    assert [service.post(f"{READ}/job_{'0' * 26}/cancel", headers=headers).status_code for _ in range(3)] == [
        404,
        404,
        429,
    ]


def test_a_quota_spent_to_the_last_second_refuses_the_next_job(service: Live) -> None:
    _, headers = service.key("poor", quota=10)
    job = service.job(owner="poor")
    for seconds, expected in ((9.99, 201), (10.0, 429)):
        service.ask(service.service.store.change(job.id, ("queued",), {"seconds": seconds}))
        assert service.post(READ, headers=headers, json={"prompt": "a red circle"}).status_code == expected


def test_service_whose_keys_were_lost_stays_closed_until_a_key_is_created(service: Live) -> None:
    key, _ = service.key("laptop")
    service.ask(service.service.store.drop("key", key.id))
    refused = service.get(READ)
    assert refused.status_code == 401 and "flickbook keys create" in refused.json()["error"]["message"]
    _, headers = service.key("new")
    assert status(service, READ, **headers) == 200


def test_service_is_open_again_after_its_keys_are_released(service: Live) -> None:
    key, _ = service.key("laptop")
    service.ask(service.service.store.drop("key", key.id))
    service.ask(service.service.store.release())
    assert status(service, READ) == 200


def test_logs_contain_no_api_key(service: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    _, headers = service.key("one")
    status(service, READ, **headers)
    status(service, READ, authorization=headers["authorization"] + "x")
    token = headers["authorization"].removeprefix("Bearer ")
    assert token not in caplog.text
