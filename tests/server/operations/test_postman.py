"""The Postman collection is the service's own: it is generated, and each of its requests is one that is answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.patience import PATIENCE
from tests.server.live import live
from tests.server.settled import QUICK, settled

from flickbook.server.operations.postman import SCHEMA, collection, document

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document()


def requests(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [item["request"] for folder in found["item"] for item in folder["item"]]


def test_the_committed_collection_is_the_generated_one(openapi: dict[str, Any]) -> None:
    text = (DOCS / "flickbook.postman_collection.json").read_text(encoding="utf-8")
    again = "python -m flickbook.server.operations.postman > docs/flickbook.postman_collection.json"
    assert json.loads(text) == collection(openapi), again


def test_every_operation_is_in_it_once(openapi: dict[str, Any]) -> None:
    found = collection(openapi)
    assert found["info"]["schema"] == SCHEMA
    count = sum(
        verb in ("get", "post", "put", "patch", "delete") for each in openapi["paths"].values() for verb in each
    )
    assert len(requests(found)) == count > 40


def test_its_requests_are_answered_as_the_document_says(openapi: dict[str, Any], tmp_path: Path) -> None:
    values = {"model": "builtin", "kind": "film", "job_id": "job_" + "0" * 26, "video_id": "video_" + "0" * 26}
    with live(tmp_path) as service, httpx2.Client(base_url=service.url, timeout=PATIENCE) as client:
        for request in requests(collection(openapi)):
            if request["url"]["path"][-1] in ("events", "sync", "generations"):
                continue  # they stream, or wait for what no worker makes here
            path = re.sub(r"\{\{(\w+)\}\}", lambda match: values.get(match[1], "x"), "/".join(request["url"]["path"]))
            body = request.get("body", {})
            sent = {"content": body["raw"].encode()} if body.get("mode") == "raw" else {}
            head = {"content-type": "application/json"} if sent else {}
            answer = client.request(request["method"], f"/{path}", headers=head, **sent)
            assert answer.status_code < 500 and answer.status_code != 405, (request["method"], path, answer.text)


@pytest.mark.slow
def test_the_calls_of_the_page_are_answered(tmp_path: Path) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    calls = re.findall(r"^```http\n(\w+) (\S+)\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert len(calls) > 8
    with live(tmp_path, webhook_hosts=("hooks.example.com",)) as service:
        ids = {name: service.post("/api/v1/jobs", json=QUICK).json()["id"] for name in ("waiting", "done")}
        ids["draft"] = service.post("/api/v1/jobs", json=QUICK | {"kind": "draft"}).json()["id"]
        for name in ("done", "draft"):
            settled(service, ids[name])
        for verb, path, body in calls:
            for name, id in ids.items():
                path, body = path.replace(f"{{{name}}}", id), body.replace(f"{{{name}}}", id)
            head = {"content-type": "application/json"} if body else {}
            answer = httpx2.request(verb, service.url + path, content=body.encode(), headers=head)
            assert answer.status_code in (200, 201), (verb, path, answer.text)


def test_the_page_names_every_route_and_no_other(openapi: dict[str, Any]) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(GET|POST|DELETE) (/(?:api/v1|media)/[a-z/{}_]+)` \|", text, re.MULTILINE))
    real = {
        (verb.upper(), path)
        for path, operations in openapi["paths"].items()
        for verb in operations
        if path.startswith(("/api/v1/", "/media/"))
    }
    assert named == real
