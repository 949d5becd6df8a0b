"""One key makes one job, nothing is left of what was refused, and no body is an error of the service."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patience import until
from tests.server.working import QUICK, Working, png, working

from flickbook.server.compatible.fields import EditVideo

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with working(tmp_path_factory.mktemp("submission"), workers=0) as service:
        yield service


def test_same_idempotency_key_returns_the_same_job_and_refuses_another_body(at: Working) -> None:
    headers = {"idempotency-key": "first"}
    one = at.http.post("/v1/videos", json={"prompt": "a red circle", **QUICK}, headers=headers).json()
    again = {**QUICK, "prompt": "a red circle"}  # in another order
    assert at.http.post("/v1/videos", json=again, headers=headers).json()["id"] == one["id"]
    for other in ({"prompt": "a blue circle", **QUICK}, {"prompt": "a red circle"}):
        answer = at.http.post("/v1/videos", json=other, headers=headers)
        assert answer.status_code == 422 and answer.json()["error"]["param"] == "Idempotency-Key"
    for key in ("", "a b", "x" * 256, "\u00e9"):
        answer = at.http.post("/v1/videos", json={"prompt": "a"}, headers={"idempotency-key": key.encode("latin-1")})
        assert answer.status_code == 400
    at.sdk.videos.delete(one["id"])


async def _at_once(url: str, count: int, **fields: Any) -> list[httpx2.Response]:
    """Answers to so many equal posts that were sent together."""
    limits = httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        request = {"json": {"prompt": "a red circle", **fields}, "headers": {"idempotency-key": "many"}}
        return await asyncio.gather(*(client.post("/v1/videos", **request) for _ in range(count)))


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_parallel_requests_with_one_key_create_one_job(count: int, tmp_path: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    with working(tmp_path, workers=0) as at:
        answers = asyncio.run(_at_once(at.live.url, count, image_url=url))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(at.http.get("/v1/videos").json()["data"]) == 1
        assert len(at.live.service.artifacts.ids()) == 1


def test_other_requests_are_served_while_one_waits(at: Working) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(at.create, **QUICK, seed=seed) for seed in range(8)]
        ids = {each.result()["id"] for each in waiting}
    assert len(ids) == 8
    for id in ids:
        at.sdk.videos.delete(id)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.lists(st.text(), max_size=2)
)


@settings(max_examples=25)
@given(
    fields=st.dictionaries(st.sampled_from([*EditVideo.model_fields, "nonsense"]), VALUES, max_size=4),
    form=st.booleans(),
)
def test_no_body_causes_a_500(at: Working, fields: dict[str, Any], form: bool) -> None:
    fields = {"prompt": "a red circle", "model": "none"} | fields  # nothing is made of it
    for path in ("/v1/videos", "/v1/videos/edits", "/v1/images/generations"):
        if form:
            text = {name: str(value).encode("utf-8", "surrogatepass") for name, value in fields.items()}
            answer = at.http.post(path, data=text)
        else:
            body = json.dumps(fields)
            answer = at.http.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, answer.text
        assert answer.status_code == 200 or answer.json()["error"]["message"]


def hung_up(at: Working) -> float:
    """How many requests that wait for their film the service has ended."""
    counted = re.findall(r'^flickbook_requests_total\{.*"/v1/videos/sync".* (\S+)$', at.http.get("/metrics").text, re.M)
    return sum(map(float, counted))


@pytest.mark.parametrize("key", ["", "again"])
def test_disconnecting_cancels_the_job_unless_it_has_an_idempotency_key(key: str, tmp_path: Path) -> None:
    headers = {"idempotency-key": key} if key else {}
    with working(tmp_path, workers=0) as at:
        with at.live.posting("/v1/videos/sync", {"prompt": "a red circle"}, **headers):
            until(lambda: at.http.get("/v1/videos").json()["data"])
        if not key:
            until(lambda: not at.http.get("/v1/videos").json()["data"])
        else:
            (video,) = at.http.get("/v1/videos").json()["data"]
            with at.live.posting("/v1/videos/sync", {"prompt": "a red circle"}, **headers):
                pass
            until(lambda: hung_up(at) == 2)
            assert [each["id"] for each in at.http.get("/v1/videos").json()["data"]] == [video["id"]]


def test_videos_of_another_owner_are_404(tmp_path: Path) -> None:
    with working(tmp_path, workers=0) as at:
        _, mine = at.live.key("mine", "read", "create")
        _, other = at.live.key("other", "read", "create")
        _, reading = at.live.key("reading", "read")
        headers = mine | {"idempotency-key": "same"}
        id = at.http.post("/v1/videos", json={"prompt": "a"}, headers=headers).json()["id"]
        for method, path, body in (
            ("GET", f"/v1/videos/{id}", None),
            ("GET", f"/v1/videos/{id}/content", None),
            ("GET", f"/v1/videos?after={id}", None),
            ("DELETE", f"/v1/videos/{id}", None),
            ("POST", f"/v1/videos/{id}/cancel", None),
            ("POST", f"/v1/videos/{id}/remix", {"prompt": "a"}),
            ("POST", "/v1/videos/edits", {"prompt": "a", "video": {"id": id}}),
            ("POST", "/v1/videos/extensions", {"prompt": "a", "video": {"id": id}}),
        ):
            assert at.http.request(method, path, json=body, headers=other).status_code == 404, path
            assert at.http.request(method, path, json=body).status_code == 401, path
            if method != "GET":
                assert at.http.request(method, path, json=body, headers=reading).status_code == 403, path
        assert at.http.get("/v1/videos", headers=other).json()["data"] == []
        twin = at.http.post("/v1/videos", json={"prompt": "a"}, headers=other | {"idempotency-key": "same"})
        assert twin.json()["id"] != id
        assert at.http.delete(f"/v1/videos/{id}", headers=mine).status_code == 200
