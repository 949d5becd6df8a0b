"""Events as they reach a client: what is told, where a stream ends, and that nothing is left of one that was."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE, until
from tests.server.live import Live, live
from tests.server.settled import QUICK, claimed, failed

JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def made(service: Live) -> str:
    return str(service.post(JOBS, json=QUICK).json()["id"])


class Events:
    """The events of a stream, as a thread reads them."""

    def __init__(self, service: Live, path: str, **headers: str) -> None:
        self.found: list[dict[str, Any]] = []
        self.comments = 0
        self._line = http.client.HTTPConnection("127.0.0.1", service.service.port, timeout=PATIENCE)
        self._line.request("GET", path, headers=headers)
        self._socket = self._line.sock
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError):  # the test went away
            response = self._line.getresponse()
            assert str(response.getheader("content-type")).startswith("text/event-stream")
            event: dict[str, Any] = {}
            while piece := response.readline():
                line = piece.decode("utf-8").rstrip("\n")
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    event[name] = json.loads(value) if name == "data" else value
                elif event:
                    self.found.append(event)
                    event = {}

    def until(self, *names: str) -> list[dict[str, Any]]:
        """All events, once these names were among them in this order."""
        until(lambda: in_order(names, [each["event"] for each in self.found]))
        return self.found

    def ended(self) -> list[dict[str, Any]]:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.found

    def leave(self) -> None:
        """Go away without a word."""
        self._socket.shutdown(socket.SHUT_RDWR)


def in_order(names: tuple[str, ...], found: list[str]) -> bool:
    rest = iter(found)
    return all(name in rest for name in names)


def run(service: Live, id: str) -> int:
    """Have the job run, and say where it is."""
    attempt = claimed(service, id).attempt
    step = {"phase": "denoise", "index": 3, "total": 25, "fraction": 0.2, "eta_seconds": 4.0, "attempt": attempt}
    service.service.artifacts.write_progress(id, **step)
    return attempt


def finish(service: Live, id: str, attempt: int) -> None:
    changes = {"state": "cancelled", "finished_at": time.time()}
    service.ask(service.service.store.settle(id, attempt, changes))


def test_job_stream_sends_state_progress_and_done(service: Live) -> None:
    id = made(service)
    events = Events(service, f"{JOBS}/{id}/events")
    events.until("state")
    service.post(f"{JOBS}/{id}/favourite", json={"favourite": True})
    attempt = run(service, id)
    events.until("state", "state", "progress")
    finish(service, id, attempt)
    found = events.ended()
    assert [found[0]["data"]["state"], found[-1]["event"]] == ["queued", "done"]
    assert [found[0]["data"]["favourite"], found[-1]["data"]["favourite"]] == [False, True]
    progress = next(each["data"] for each in found if each["event"] == "progress")
    assert (progress["phase"], progress["index"], progress["fraction"]) == ("denoise", 3, 0.2)
    assert found[-1]["data"]["state"] == "cancelled" and found[-1]["retry"] == "3600000"


def test_previews_are_sent_only_on_request(service: Live) -> None:
    id = made(service)
    attempt = run(service, id)
    (service.service.artifacts.made(id) / "preview.webp").write_bytes(b"RIFF")
    plain, shown = Events(service, f"{JOBS}/{id}/events"), Events(service, f"{JOBS}/{id}/events?previews=1")
    shown.until("state", "progress", "preview")
    assert service.service.artifacts.watched(id)
    finish(service, id, attempt)
    assert {each["event"] for each in plain.ended()} == {"state", "progress", "done"}
    picture = next(each["data"] for each in shown.ended() if each["event"] == "preview")
    assert (picture["media_type"], base64.b64decode(picture["base64"])) == ("image/webp", b"RIFF")


def test_reconnecting_with_last_event_id_skips_received_events(service: Live) -> None:
    id = made(service)
    run(service, id)
    first = Events(service, f"{JOBS}/{id}/events")
    last = first.until("state", "progress")[-1]["id"]
    first.leave()
    again = Events(service, f"{JOBS}/{id}/events", **{"last-event-id": last})
    service.service.artifacts.write_progress(id, phase="decode", index=1, total=4, fraction=0.9, attempt=1)
    (first_seen,) = again.until("progress")
    assert first_seen["data"]["phase"] == "decode"
    fresh = Events(service, f"{JOBS}/{id}/events", **{"last-event-id": "never seen"})
    assert [each["event"] for each in fresh.until("state", "progress")] == ["state", "progress"]
    again.leave()
    fresh.leave()
    finish(service, id, 1)


def test_streams_of_finished_and_deleted_jobs_end_at_once(service: Live) -> None:
    id = made(service)
    failed(service, id)
    (done,) = Events(service, f"{JOBS}/{id}/events").ended()
    assert (done["event"], done["data"]["error"]["message"]) == ("done", "out of luck")
    other = made(service)
    events = Events(service, f"{JOBS}/{other}/events")
    events.until("state")
    service.delete(f"{JOBS}/{other}")
    names = [each["event"] for each in events.ended()]
    assert names[-1] in ("deleted", "done")  # a look may meet it cancelled, a moment before it is gone


@pytest.mark.slow
def test_the_stream_of_all_jobs_sends_every_change(service: Live) -> None:
    id = made(service)
    events = Events(service, "/api/v1/events")
    until(lambda: any(each["data"]["id"] == id for each in events.found))
    moment = events.found[-1]["id"]
    attempt = run(service, id)
    until(lambda: any(each["event"] == "progress" and each["data"]["id"] == id for each in events.found))
    finish(service, id, attempt)
    until(lambda: any(each["event"] == "done" and each["data"]["id"] == id for each in events.found))
    again = Events(service, "/api/v1/events", **{"last-event-id": moment})
    until(lambda: any(each["event"] == "done" and each["data"]["id"] == id for each in again.found))
    assert all("favourite" in each["data"] for each in again.found if each["event"] in ("state", "done"))
    events.leave()
    again.leave()


def test_streams_of_one_job_share_one_poll_that_ends_with_them(service: Live) -> None:
    watches = service.app.state.watches
    until(lambda: not watches.watches)
    id = made(service)
    streams = [Events(service, f"{JOBS}/{id}/events") for _ in range(30)]
    for each in streams:
        each.until("state")
    assert [watch.streams for watch in watches.watches.values()] == [30]
    tasks = service.ask(_tasks())
    for each in streams[:-1]:
        each.leave()
    until(lambda: [watch.streams for watch in watches.watches.values()] == [1])
    streams[-1].leave()
    until(lambda: not watches.watches)
    until(lambda: service.ask(_tasks()) < tasks - 30)


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def test_a_silent_stream_sends_keep_alive_comments(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    events = Events(service, f"{JOBS}/{made(service)}/events")
    until(lambda: events.comments > 1)
    events.leave()


def test_too_many_streams_are_refused(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    id = made(service)
    monkeypatch.setattr("flickbook.server.api.events.STREAMS", 0)
    response = service.get(f"{JOBS}/{id}/events")
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")


@pytest.mark.parametrize("path", [f"{JOBS}/{{id}}/events", "/api/v1/events"])
@pytest.mark.slow
def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("flickbook.server.api.events.RECHECK", 0.1)
    with live(tmp_path) as service:
        key, headers = service.key("reader", "read", "create")
        id = service.post(JOBS, json=QUICK, headers=headers).json()["id"]
        events = Events(service, path.format(id=id), **headers)
        events.until("state")
        service.ask(service.guard.keys.revoke(key.id))
        assert [each["event"] for each in events.ended()] == ["state"]
