"""Webhooks: each end of each job is told to each who asked, signed, until it arrives, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.jobs.conftest import Small
from tests.jobs.receiver import Receiver, receiver
from tests.patience import until

from flickbook.errors import LimitReached, RequestError
from flickbook.jobs import webhooks
from flickbook.jobs.backend import Backend
from flickbook.jobs.webhooks import BACKOFF, EVENTS, Endpoint, Webhooks
from flickbook.store.base import DONE, Job

ROOT = Path(__file__).parents[2]


def webhooks_to(backend: Backend, other: Receiver) -> Webhooks:
    return Webhooks(backend.store, (f"127.0.0.1:{other.port}",))


def endpoint(backend: Backend, hooks: Webhooks, *events: Any, owner: str = "") -> tuple[Endpoint, str]:
    url = f"http://{hooks.hosts[0]}/hook"
    return backend.ask(hooks.create(owner, url, events or EVENTS))


def ended(backend: Backend, job: Job, state: str = "completed") -> Job:
    """The job, settled in this state."""
    (added,) = backend.ask(backend.queue.submit([job]))
    claimed = backend.ask(backend.store.claim("a test", 60.0, added.id))
    assert claimed is not None
    changes = {"state": state, "finished_at": time.time()}
    found = backend.ask(backend.store.settle(added.id, claimed.attempt, changes))
    assert found is not None
    return found


def delivered(backend: Backend, hooks: Webhooks) -> int:
    """Find and send once."""

    async def both() -> int:
        await hooks.find()
        return await hooks.send()

    return backend.ask(both())


def test_the_openai_client_verifies_the_messages(backend: Backend, small: Small) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        _, secret = endpoint(backend, hooks, "video.completed", "job.completed")
        job = ended(backend, small())
        assert delivered(backend, hooks) == 2
        client = openai.OpenAI(api_key="x", webhook_secret=secret)
        found = {}
        for path, headers, body in other.deliveries:
            event = client.webhooks.unwrap(body, headers)
            found[event.type] = event.data.id
            assert path == "/hook" and headers["content-type"] == "application/json"
            with pytest.raises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(body.replace(b"completed", b"complete"), headers)
        assert found == {"video.completed": job.id.replace("job_", "video_"), "job.completed": job.id}
        event = json.loads(other.deliveries[0][2])
        assert set(event) == {"id", "object", "created_at", "type", "data"} and event["object"] == "event"


@pytest.mark.parametrize("state", DONE)
def test_each_end_state_is_delivered_once_to_subscribers(backend: Backend, small: Small, state: str) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        endpoint(backend, hooks, f"job.{state}")
        endpoint(backend, hooks, f"job.{state}", owner="stranger")
        ended(backend, small(), state)
        assert [delivered(backend, hooks) for _ in range(3)] == [1, 0, 0]
        # A sender that begins anew finds the same end, and knows that it was told.
        assert delivered(backend, webhooks_to(backend, other)) == 0
        assert [json.loads(body)["type"] for body in other.bodies()] == [f"job.{state}"]


def test_a_retried_job_is_delivered_again(backend: Backend, small: Small) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        endpoint(backend, hooks, "job.failed")
        job = ended(backend, small(), "failed")
        delivered(backend, hooks)
        backend.ask(backend.queue.retry(job.id))
        backend.ask(backend.store.claim("a test", 60.0, job.id))
        backend.ask(backend.store.settle(job.id, 2, {"state": "failed", "finished_at": time.time()}))
        delivered(backend, hooks)
        assert len(set(other.ids())) == 2


def test_jobs_finished_before_the_webhook_are_not_delivered(backend: Backend, small: Small) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        ended(backend, small())
        time.sleep(0.01)
        endpoint(backend, hooks)
        assert delivered(backend, hooks) == 0 == len(other.deliveries)


def test_a_failed_delivery_is_repeated_with_the_same_id(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BACKOFF", (0.01,) * 10)
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        made, _ = endpoint(backend, hooks, "job.completed")
        ended(backend, small())
        other.answers = [500, 302]
        for expected in (0, 0, 1, 0):
            assert delivered(backend, hooks) == expected
            time.sleep(0.02)
        assert len(other.deliveries) == 3 and len(set(other.ids())) == 1 and len(set(other.bodies())) == 1
        (delivery,) = backend.ask(hooks.deliveries(made))
        assert (delivery.state, delivery.attempt, delivery.status, delivery.error) == ("delivered", 3, 200, "")


def test_retries_back_off_and_end_after_a_day(backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(BACKOFF) == sorted(BACKOFF) and 0.9 < sum(BACKOFF) / 86_400 < 1.1
    monkeypatch.setattr(webhooks, "BACKOFF", (0.001,) * 2)
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        made, _ = endpoint(backend, hooks, "job.completed")
        ended(backend, small())
        other.answers = [500] * 9
        for _ in range(6):
            delivered(backend, hooks)
            time.sleep(0.01)
        (delivery,) = backend.ask(hooks.deliveries(made))
        assert (delivery.state, len(other.deliveries), delivery.error) == ("given_up", 3, "responded with status 500")


def test_a_410_response_ends_the_delivery(backend: Backend, small: Small) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        made, _ = endpoint(backend, hooks, "job.completed")
        other.answers = [410]
        ended(backend, small())
        delivered(backend, hooks)
        assert backend.ask(hooks.deliveries(made))[0].state == "given_up"


def test_a_deleted_webhook_receives_nothing(backend: Backend, small: Small) -> None:
    with receiver() as other:
        hooks = webhooks_to(backend, other)
        made, _ = endpoint(backend, hooks)
        ended(backend, small())
        backend.ask(hooks.find())
        assert backend.ask(hooks.remove(made.id))
        assert backend.ask(hooks.send()) == 0 == len(other.deliveries)
        assert backend.ask(backend.store.notes("delivery")) == []


def test_a_host_that_is_no_longer_allowed_receives_nothing(backend: Backend, small: Small) -> None:
    with receiver() as other:
        made, _ = endpoint(backend, webhooks_to(backend, other))
        ended(backend, small())
        hooks = Webhooks(backend.store, ("elsewhere.example.com",))
        assert delivered(backend, hooks) == 0 == len(other.deliveries)
        assert "not an allowed webhook host" in backend.ask(hooks.deliveries(made))[0].error


def test_two_senders_deliver_each_message_once(backend: Backend, small: Small) -> None:
    with receiver() as other:
        one, two = webhooks_to(backend, other), webhooks_to(backend, other)
        endpoint(backend, one, "job.completed")
        for seed in range(5):
            ended(backend, small(seed))
        backend.ask(one.find())

        async def both() -> list[int]:
            return await asyncio.gather(one.send(), two.send())

        assert sum(backend.ask(both())) == 5 == len(set(other.ids())) == len(other.deliveries)


def test_webhooks_per_owner_are_bounded_and_have_separate_secrets(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "LIMIT", 2)
    hooks = Webhooks(backend.store, ("hooks.example.com",))

    def create(owner: str = "") -> tuple[Endpoint, str]:
        return backend.ask(hooks.create(owner, "https://hooks.example.com/x", ("job.failed",)))

    (one, first), (_, second) = create(), create()
    assert first != second and first.startswith("whsec_")
    assert (
        backend.ask(hooks.secret(one)) == first and first[6:] not in backend.ask(backend.store.notes("webhook"))[0].body
    )
    with pytest.raises(LimitReached):
        create()
    assert create("another")
    with pytest.raises(RequestError):
        backend.ask(hooks.create("", "https://evil.example.com/", ("job.failed",)))


@pytest.mark.slow
def test_pending_deliveries_survive_a_kill(tmp_path: Path, small: Small) -> None:
    """A sender dies while the receiver is silent; the next one sends the same, with the same id."""
    address = f"sqlite:///{tmp_path}/jobs.db"
    program = """
import asyncio, sys
from flickbook.jobs import webhooks
from flickbook.store.connect import connect
webhooks._CLAIM = 0.5
async def main():
    store = connect(sys.argv[1])
    await store.open()
    await webhooks.Webhooks(store, (sys.argv[2],)).run()
asyncio.run(main())
"""
    with receiver() as other:
        words = [sys.executable, "-c", program, address, f"127.0.0.1:{other.port}"]
        other.answers = [0]
        with Backend.at(address, tmp_path / "jobs") as backend:
            hooks = webhooks_to(backend, other)
            made, _ = endpoint(backend, hooks, "job.completed")
            ended(backend, small())
            for number in (1, 2):
                sender = subprocess.Popen(words, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")})
                try:
                    until(lambda number=number: len(other.deliveries) == number)
                    if number == 2:
                        until(lambda: backend.ask(hooks.deliveries(made))[0].state != "waiting")
                finally:
                    sender.send_signal(signal.SIGKILL)
                    sender.wait()
            assert len(set(other.ids())) == 1 and len(other.deliveries) == 2
            assert backend.ask(hooks.deliveries(made))[0].state == "delivered"
