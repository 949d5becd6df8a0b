"""/mcp of the service: keys, scopes, rates, hosts and origins, as the SDK's client over HTTP meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from tests.agents.talking import QUICK, RED, Tasks, ask, refusal, run, state_of, text_of
from tests.patience import PATIENCE
from tests.server.live import Live, live
from tests.server.working import working_processes

from flickbook.agents.mount import mount

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path, mount) as found:
        yield found


@asynccontextmanager
async def agent(service: Live, headers: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Client]:
    """A client of /mcp with these headers."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as http,
        Client(streamable_http_client(f"{service.url}/mcp", http_client=http), **options) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_without_keys_an_agent_on_this_machine_may_do_everything(service: Live, mode: str) -> None:
    async def main() -> None:
        async with agent(service, mode=mode) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
            found = await ask(client, "wait_for_films", ids=[film["id"]], seconds=0.1)
            assert found["films"][0]["state"] == "queued"

    run(main())


def test_a_server_that_cannot_start_answers_with_an_error_and_is_started_again(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(StreamableHTTPSessionManager, "run", lambda self: (_ for _ in ()).throw(OSError("no room")))
        answer = httpx2.post(f"{service.url}/mcp", json=INITIALIZE, headers=ACCEPT, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 500
    answer = httpx2.post(f"{service.url}/mcp", json=INITIALIZE, headers=ACCEPT, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 200


def test_a_key_limits_what_its_agent_sees_and_does(service: Live) -> None:
    _, reading = service.key("reader", "read", owner="team")
    _, making = service.key("maker", "read", "create", owner="team")
    _, other = service.key("other", "read", "create")

    async def main() -> None:
        async with agent(service, making) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
        async with agent(service, reading) as client:
            assert "make_film" not in [tool.name for tool in (await client.list_tools()).tools]
            assert "lacks the scope create" in await refusal(client, "make_film", prompt=RED)
            assert "lacks the scope create" in await refusal(client, "cancel_jobs", ids=[film["id"]])
            assert [each["id"] for each in (await ask(client, "search_films"))["films"]] == [film["id"]]
        async with agent(service, other) as client:
            assert (await ask(client, "search_films"))["films"] == []
            assert film["id"] in await refusal(client, "show_jobs", ids=[film["id"]])

    run(main())
    assert service.get("/api/v1/queue", headers=making).json()["counts"]["queued"] == 1


def test_without_a_valid_key_nothing_is_answered(service: Live) -> None:
    service.key("someone")
    for headers in ({}, {"authorization": "Bearer fb_wrong"}):
        answer = service.post("/mcp", json=INITIALIZE, headers=ACCEPT | headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_only_what_makes_something_counts_against_the_rate_of_making(service: Live) -> None:
    _, headers = service.key("slow", rate=2)

    async def main() -> None:
        async with agent(service, headers) as client:
            for _ in range(4):
                await ask(client, "search_films")
            for _ in range(2):
                await ask(client, "make_film", prompt=RED, **QUICK)
            assert "limit of 2 per minute" in await refusal(client, "make_film", prompt=RED, **QUICK)
            assert len((await ask(client, "search_films"))["films"]) == 2

    run(main())


def test_a_used_up_quota_refuses_new_films(service: Live) -> None:
    _, headers = service.key("poor", quota=1)
    service.job(owner="poor", state="completed", seconds=2.0, finished_at=4e9)

    async def main() -> None:
        async with agent(service, headers) as client:
            assert "device time" in await refusal(client, "make_film", prompt=RED, **QUICK)

    run(main())


def test_pages_of_other_sites_and_other_names_are_refused(service: Live) -> None:
    refused = [
        service.post("/mcp", json=INITIALIZE, headers=ACCEPT | {"origin": "https://evil.example"}),
        service.post("/mcp", json=INITIALIZE, headers=ACCEPT | {"host": "evil.example"}),
        service.get("/mcp", headers=ACCEPT),
        service.delete("/mcp"),
    ]
    assert [answer.status_code for answer in refused] == [403, 421, 405, 405]
    assert service.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 200


def test_a_waiting_call_ends_when_its_key_is_revoked(service: Live) -> None:
    key, headers = service.key("leaving")

    async def main() -> None:
        async with agent(service, headers) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
            waits = asyncio.Event()

            async def tell(*_: Any) -> None:
                waits.set()

            fields = {"ids": [film["id"]], "seconds": 600}
            waiting = asyncio.ensure_future(client.call_tool("wait_for_films", fields, progress_callback=tell))
            await waits.wait()
            service.ask(service.guard.keys.revoke(key.id))
            assert "no longer valid" in text_of(await waiting)

    run(main())


def test_a_waiting_call_ends_with_the_service(service: Live) -> None:
    async def main() -> None:
        async with agent(service) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
            service.loop.call_soon_threadsafe(service.app.state.closing.set)
            (film,) = (await ask(client, "wait_for_films", ids=[film["id"]], seconds=600))["films"]
            assert film["state"] == "queued"

    run(main())


@pytest.mark.slow
def test_a_film_is_a_task_over_http_and_its_link_needs_no_key(tmp_path: Path) -> None:
    with live(tmp_path, mount) as service, working_processes(1, tmp_path):
        _, headers = service.key("maker")

        async def main() -> None:
            async with agent(service, headers, extensions=[tasks := Tasks()]) as client:
                (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
                assert film["state"] == "completed" and tasks.seen == [film["id"]]
                assert (await state_of(client, film["id"])).status == "completed"
                answer = httpx2.get(film["url"], trust_env=False)
                assert (answer.status_code, len(answer.content)) == (200, film["bytes"])
                assert answer.headers["content-type"] == "video/mp4"

        run(main())
