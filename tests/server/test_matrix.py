"""Every route, each verb, each caller: none, a bad key, a revoked, an expired, a stranger's, a low one, an admin's.

A route that is not in the table fails a test: a new one is a line here, where a reader of the change sees it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from tests.server.live import Live, live

from flickbook.jobs import api_keys
from flickbook.server.access import rate_limits
from flickbook.server.access.dependencies import SAFE

#: Who may: anybody; with a right; or whoever has a link.
Access = Literal["public", "read", "create", "admin", "link"]
FILM = {"prompt": "a red circle", "num_frames": 8}
FORM = {"files": {"prompt": (None, "a red circle")}}
NOTHING: dict[str, Any] = {}


@dataclass(frozen=True)
class Line:
    """One route: its verb, its path, who may, and what a caller sends."""

    verb: str
    path: str
    access: Access
    send: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


def line(text: str, access: Access, **send: Any) -> Line:
    verb, path = text.split()
    return Line(verb, path, access, send)


FILES = [
    line(f"{verb} /api/v1/jobs/{{id}}/{kind}", "read")
    for verb in ("GET", "HEAD")
    for kind in ("film", "preview", "thumbnail", "sheet", "last", "recipe", "lora", "network", "comparison")
]
TABLE = [
    line("GET /openapi.json", "public"),
    line("HEAD /openapi.json", "public"),
    line("GET /docs", "public"),
    line("GET /healthz", "public"),
    line("GET /readyz", "public"),
    line("GET /metrics", "admin"),
    line("POST /v1/videos", "create", json={"prompt": "a red circle"}),
    line("POST /v1/videos/sync", "create", json={"prompt": "a red circle", "size": "1x1"}),
    line("POST /v1/videos/edits", "create", **FORM),
    line("POST /v1/videos/extensions", "create", **FORM),
    line("GET /v1/videos", "read"),
    line("GET /v1/videos/{video_id}", "read"),
    line("DELETE /v1/videos/{video_id}", "create"),
    line("POST /v1/videos/{video_id}/cancel", "create"),
    line("POST /v1/videos/{video_id}/remix", "create", json={"prompt": "a blue square"}),
    line("GET /v1/videos/{video_id}/content", "read"),
    line("HEAD /v1/videos/{video_id}/content", "read"),
    line("POST /v1/images/generations", "create", json={"prompt": "x", "size": "1x1"}),
    line("GET /v1/models", "read"),
    line("GET /v1/models/{model}", "read"),
    line("POST /v1/webhook_endpoints", "create", json={"url": "https://hooks.example/x", "event_types": []}),
    line("GET /v1/webhook_endpoints", "read"),
    line("GET /v1/webhook_endpoints/{hook}", "read"),
    line("DELETE /v1/webhook_endpoints/{hook}", "create"),
    line("POST /api/v1/jobs", "create", json=FILM),
    line("GET /api/v1/jobs", "read"),
    line("GET /api/v1/queue", "read"),
    line("GET /api/v1/jobs/{id}", "read"),
    line("DELETE /api/v1/jobs/{id}", "create"),
    line("POST /api/v1/jobs/{id}/cancel", "create"),
    line("POST /api/v1/jobs/{id}/pause", "create"),
    line("POST /api/v1/jobs/{id}/resume", "create"),
    line("POST /api/v1/jobs/{id}/retry", "create"),
    line("POST /api/v1/jobs/{id}/again", "create", json={"seed": None}),
    line("POST /api/v1/jobs/{id}/reorder", "create", json={"before": None}),
    line("POST /api/v1/jobs/{id}/favourite", "create", json={"favourite": True}),
    line("POST /api/v1/jobs/{id}/priority", "create", json={"priority": 1}),
    line("POST /api/v1/jobs/{id}/links", "create", json={"file": "film"}),
    line("GET /api/v1/jobs/{id}/log", "read"),
    line("GET /api/v1/jobs/{id}/run", "read"),
    line("GET /api/v1/jobs/{id}/events", "read"),
    line("GET /api/v1/events", "read"),
    *FILES,
    line("POST /api/v1/drafts", "create", json={"prompt": "x", "seeds": 2}),
    line("POST /api/v1/drafts/finish", "create", json={"ids": ["{id}"]}),
    line("POST /api/v1/sequences", "create", json={"prompts": ["x", "y"], "frames_per": 2}),
    line("POST /api/v1/shots", "create", json={"shots": [FILM]}),
    line("POST /api/v1/tunes", "create", **FORM),
    line("POST /api/v1/tunes/check", "create", **FORM),
    line("POST /api/v1/batches", "create", json={"rows": [FILM]}),
    line("POST /api/v1/recipes/inspect", "create", **FORM),
    line("GET /api/v1/models", "read"),
    line("GET /api/v1/models/{name}", "read"),
    line("POST /api/v1/models/{name}/pull", "admin"),
    line("GET /api/v1/models/{name}/pull", "read"),
    line("GET /api/v1/loras", "read"),
    line("GET /api/v1/machine", "read"),
    line("POST /api/v1/estimate", "create", json=FILM),
    line("POST /api/v1/webhooks", "create", json={"url": "https://hooks.example/x"}),
    line("GET /api/v1/webhooks", "read"),
    line("GET /api/v1/webhooks/{hook}", "read"),
    line("DELETE /api/v1/webhooks/{hook}", "create"),
    line("GET /api/v1/webhooks/{hook}/deliveries", "read"),
    line("GET /media/{id}/{kind}", "link"),
    line("HEAD /media/{id}/{kind}", "link"),
]
#: Parts of a path that name a thing of one owner.
OWNED = ("{id}", "{video_id}", "{hook}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    patch = pytest.MonkeyPatch()
    patch.setattr(api_keys, "FRESH", 0.0)
    patch.setattr(rate_limits, "MAX_FAILURES", 10**9)
    with live(tmp_path_factory.mktemp("matrix"), webhook_hosts=("hooks.example",)) as found:
        yield found
    patch.undo()


@pytest.fixture(scope="module")
def callers(service: Live) -> dict[str, dict[str, str]]:
    """The headers of every caller, by what it is."""
    made = {
        "none": {},
        "bad": {"authorization": "Bearer fb_0123456789_" + "A" * 43},
        "owner": service.key("owner")[1],
        "stranger": service.key("stranger")[1],
        "reads": service.key("reads", "read", owner="owner")[1],
        "creates": service.key("creates", "create", owner="owner")[1],
        "admin": service.key("root", "admin")[1],
    }
    revoked, made["revoked"] = service.key("revoked", "admin")
    service.ask(service.guard.keys.revoke(revoked.id))
    expired, made["expired"] = service.key("expired", "admin", seconds=60.0)
    past = expired.model_copy(update={"expires_at": time.time() - 1})
    service.ask(service.guard.keys._put(past))
    return made


def request_status(service: Live, each: Line, caller: dict[str, str], ids: dict[str, str]) -> tuple[int, str]:
    """The status of an answer, and its beginning: some have no end."""
    path = each.path
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    send = {name: _filled(value, ids) for name, value in each.send.items()}
    with service.http.stream(each.verb, service.url + path, headers=caller, **send) as answer:
        text = (
            "" if answer.headers.get("content-type", "").startswith("text/event") else answer.read().decode("latin-1")
        )
        return answer.status_code, text


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, ids) for each in value]
    return ids["id"] if value == "{id}" else value


_MADE: dict[int, dict[str, str]] = {}


def made(service: Live, callers: dict[str, dict[str, str]], anew: bool = False) -> dict[str, str]:
    """What belongs to the owner: a job, and a webhook. It is made anew where it was deleted."""
    if anew or id(service) not in _MADE:
        _MADE[id(service)] = _made(service, callers)
    return _MADE[id(service)]


def _made(service: Live, callers: dict[str, dict[str, str]]) -> dict[str, str]:
    job = service.job(owner="owner")
    done = {"state": "cancelled", "finished_at": time.time()}
    service.ask(service.service.store.change(job.id, ("queued",), done))
    for note in service.ask(service.service.store.notes("webhook")):  # an owner has not more than a few
        service.ask(service.service.store.drop("webhook", note.id))
    hook = service.post("/api/v1/webhooks", headers=callers["owner"], json={"url": "https://hooks.example/x"})
    assert hook.status_code < 300, hook.text
    video = f"video_{job.id[-26:]}"
    return {
        "id": job.id,
        "video_id": video,
        "hook": hook.json()["id"],
        "model": "builtin",
        "name": "builtin",
        "kind": "film?expires=9999999999&signature=" + "0" * 64,
    }


def test_every_route_is_in_the_access_table(service: Live) -> None:
    found = set()
    for route in service.app.routes:
        inner = getattr(route, "effective_route_contexts", None)
        for each in [route] if inner is None else list(inner()):
            found |= {(verb, each.path) for verb in each.methods}
    in_table = {(each.verb, each.path.replace("{hook}", "{id}")) for each in TABLE}
    assert found == in_table | {("GET", "/")}  # a redirect for anybody


@pytest.mark.parametrize("each", TABLE, ids=str)
def test_each_route_admits_exactly_the_listed_callers(
    service: Live, callers: dict[str, dict[str, str]], each: Line
) -> None:
    ids = made(service, callers)
    for who in ("none", "bad", "revoked", "expired"):
        status, text = request_status(service, each, callers[who], ids)
        if each.access in ("public", "link"):
            assert status == (200 if each.access == "public" else 404), f"{who}: {text}"
        else:
            assert status == 401, f"{who}: {status} {text}"
    if each.access in ("public", "link"):
        return
    low = "creates" if each.access == "read" else "reads"
    assert request_status(service, each, callers[low], ids)[0] == 403
    status, text = request_status(service, each, callers["stranger"], ids)
    if each.access == "admin":
        assert status == 403
    elif any(part in each.path for part in OWNED) or "{id}" in str(each.send):
        # The response is the one for an id that does not exist.
        assert status == 404, text
        unknown = {
            **ids,
            "id": f"job_{'7' * 26}",
            "video_id": f"video_{'7' * 26}",
            "hook": ids["hook"][:-26] + "7" * 26,
        }
        other, other_text = request_status(service, each, callers["stranger"], unknown)
        assert other == 404
        for name in ("id", "video_id", "hook"):
            text, other_text = text.replace(ids[name], name), other_text.replace(unknown[name], name)
        assert text == other_text
    else:
        assert status not in (401, 403) and status < 500, text
        assert ids["id"] not in text and ids["hook"] not in text
    may = ["admin"] if each.access == "admin" else ["admin", "owner", "reads" if each.access == "read" else "creates"]
    for who in may:
        status, text = request_status(service, each, callers[who], made(service, callers, anew=each.verb == "DELETE"))
        assert status not in (401, 403, 405) and status < 500, f"{who}: {status} {text}"
    if each.verb == "DELETE":
        made(service, callers, anew=True)


@pytest.mark.parametrize("path", sorted({each.path for each in TABLE}))
def test_other_verbs_are_405_or_401_and_change_nothing(
    service: Live, callers: dict[str, dict[str, str]], path: str
) -> None:
    ids = made(service, callers)
    known = {each.verb for each in TABLE if each.path == path}
    for verb in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - known:
        each = Line(verb, path, "admin", NOTHING)
        nobody, _ = request_status(service, each, callers["none"], ids)
        # A path may be that of another route too, for which a key is needed.
        assert nobody in ((401, 404, 405) if verb in SAFE else (401,))
        status, text = request_status(service, each, callers["admin"], ids)
        assert status in (404, 405), f"{verb}: {status} {text}"
    assert service.get(f"/api/v1/jobs/{ids['id']}", headers=callers["owner"]).status_code == 200
