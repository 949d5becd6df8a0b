"""Webhooks over HTTP: made, seen and removed by their owner, in our form and through the real SDK, and told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.jobs.receiver import Receiver, receiver
from tests.patience import until
from tests.server.live import Live, live
from tests.server.settled import QUICK, failed

HOOKS = "/api/v1/webhooks"


@pytest.fixture(scope="module")
def other() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, other: Receiver) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service"), webhook_hosts=(f"127.0.0.1:{other.port}",)) as found:
        yield found


@pytest.fixture
def url(other: Receiver) -> str:
    return f"http://127.0.0.1:{other.port}/hook"


def test_a_webhook_is_created_retrieved_and_deleted(service: Live, url: str) -> None:
    response = service.post(HOOKS, json={"url": url, "name": "mine", "event_types": ["job.failed", "job.completed"]})
    made = response.json()
    assert response.status_code == 201 and made["signing_secret"].startswith("whsec_")
    assert made["event_types"] == ["job.completed", "job.failed"]
    seen = service.get(f"{HOOKS}/{made['id']}").json()
    assert "signing_secret" not in seen and seen["signing_secret_hint"].endswith(made["signing_secret"][-4:])
    assert made["id"] in [each["id"] for each in service.get(HOOKS).json()["data"]]
    assert service.delete(f"{HOOKS}/{made['id']}").json()["deleted"] is True
    for path in ("", "/deliveries"):
        assert service.get(f"{HOOKS}/{made['id']}{path}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://example.com/"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "x", "event_types": []}, "event_types"),
        ({"url": "x", "event_types": ["batch.completed"]}, "event_types.0"),
        ({"url": "x", "secret": "y"}, "secret"),
        ({}, "url"),
    ],
)
def test_an_invalid_webhook_is_refused_with_its_field(service: Live, body: dict[str, Any], field: str) -> None:
    response = service.post(HOOKS, json=body)
    assert (response.status_code, response.json()["error"]["field"]) == (400, field)


def test_webhooks_are_refused_without_allowed_hosts(tmp_path: Any) -> None:
    with live(tmp_path) as service:
        response = service.post(HOOKS, json={"url": "https://example.com/"})
        assert response.status_code == 400 and "sends no webhooks" in response.json()["error"]["message"]


def test_the_openai_client_creates_webhooks_and_verifies_messages(service: Live, other: Receiver, url: str) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as sdk:
        made = sdk.webhooks.create(event_types=["video.failed"], name="sdk", url=url)  # type: ignore[list-item]
        assert sdk.webhooks.retrieve(made.id).url == url
        assert [each.id for each in sdk.webhooks.list(limit=1)][-1] == made.id
        id = service.post("/api/v1/jobs", json=QUICK).json()["id"]
        failed(service, id)
        until(lambda: other.deliveries)
        (_, headers, body) = other.deliveries[0]
        event = sdk.webhooks.unwrap(body, headers, secret=made.signing_secret)
        assert (event.type, event.data.id) == ("video.failed", id.replace("job_", "video_"))
        (sent,) = service.get(f"{HOOKS}/{made.id}/deliveries").json()["data"]
        assert (sent["event_type"], sent["id"]) == ("video.failed", headers["webhook-id"])
        assert sdk.webhooks.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.webhooks.retrieve(made.id)
        with pytest.raises(openai.BadRequestError, match="event_types"):
            sdk.webhooks.create(event_types=["batch.completed"], name="x", url=url)


@pytest.mark.slow
def test_webhooks_of_another_owner_are_404(tmp_path: Any) -> None:
    with live(tmp_path, webhook_hosts=("hooks.example.com",)) as service:
        (_, mine), (_, stranger) = service.key("mine", "read", "create"), service.key("other", "read", "create")
        made = service.post(HOOKS, json={"url": "https://hooks.example.com/x"}, headers=mine).json()
        assert service.get(f"{HOOKS}/{made['id']}", headers=mine).status_code == 200
        assert service.get(f"{HOOKS}/{made['id']}", headers=stranger).status_code == 404
        assert service.delete(f"{HOOKS}/{made['id']}", headers=stranger).status_code == 404
        assert service.get(HOOKS, headers=stranger).json()["data"] == []
