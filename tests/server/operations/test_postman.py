"""The Postman collection: it is generated, it has every operation, and run in its order it passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.patience import until
from tests.server.live import live
from tests.server.settled import QUICK, settled
from tests.server.working import working

from flickbook.server.operations.postman import SCHEMA, collection, document
from flickbook.server.operations.postman_steps import FOLDERS, LEFT_OUT

#: The statements of the collection's scripts.
SKIP = r'if \(!pm\.collectionVariables\.get\("(\w+)"\)\) pm\.execution\.skipRequest\(\);'
STATUS = r'pm\.test\("status (\d+)", \(\) => pm\.response\.to\.have\.status\(\1\)\);'
SET = r'pm\.collectionVariables\.set\("(\w+)", pm\.response\.json\(\)\.([\w.\[\]]+)\);'
REPEAT = (
    r"if \((\[.*\])\.includes\(pm\.response\.json\(\)\.(\w+)\)\) \{\n  setTimeout\(\(\) => \{\}, 500\);\n"
    r"  pm\.execution\.setNextRequest\(pm\.info\.requestName\);\n\} else \{\n"
    r'  pm\.test\("completed", \(\) => pm\.expect\(pm\.response\.json\(\)\.\2\)\.to\.eql\("completed"\)\);\n\}'
)
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document()


def test_the_committed_collection_is_the_generated_one(openapi: dict[str, Any]) -> None:
    text = (DOCS / "flickbook.postman_collection.json").read_text(encoding="utf-8")
    again = "python -m flickbook.server.operations.postman > docs/flickbook.postman_collection.json"
    assert json.loads(text) == collection(openapi), again


def test_the_collection_has_every_operation_that_a_run_can_make(openapi: dict[str, Any]) -> None:
    operations = {each["operationId"] for path in openapi["paths"].values() for each in path.values()}
    used = {step.operation for steps in FOLDERS.values() for step in steps}
    assert len(operations) > 40 and used == operations - set(LEFT_OUT)


def test_every_request_has_a_name_of_its_own(openapi: dict[str, Any]) -> None:
    """Postman repeats a request by its name."""
    found = collection(openapi)
    names = [item["name"] for folder in found["item"] for item in folder["item"]]
    assert found["info"]["schema"] == SCHEMA and len(names) == len(set(names)) > 70


class Replay:
    """Runs a collection as Postman does, with the few statements that its scripts have.

    Any other statement is an error, so a script cannot do what is not tested.
    """

    def __init__(self, found: dict[str, Any], **variables: str) -> None:
        self.values = {each["key"]: each["value"] for each in found["variable"]} | variables
        self.skipped: list[str] = []
        self.passed: list[str] = []

    def run(self, found: dict[str, Any], client: httpx2.Client) -> None:
        for folder in found["item"]:
            for item in folder["item"]:
                scripts = {each["listen"]: "\n".join(each["script"]["exec"]) for each in item["event"]}
                if self._skips(scripts.get("prerequest", "")):
                    self.skipped.append(item["name"])
                else:
                    until(lambda item=item, script=scripts["test"]: self._is_done(item, script, client), 0.1)
                    self.passed.append(item["name"])

    def _skips(self, script: str) -> bool:
        if not script:
            return False
        match = re.fullmatch(SKIP, script)
        assert match, script
        return not self.values[match[1]]

    def _filled(self, text: str) -> str:
        """The text with its variables, each of which must have a value by now."""
        found = re.sub(r"\{\{(\w+)\}\}", lambda match: self.values[match[1]] or f"<{match[1]} is not set>", text)
        assert "is not set>" not in found, found
        return found

    def _is_done(self, item: dict[str, Any], script: str, client: httpx2.Client) -> bool:
        """Sends a request and runs the script on its response. Returns whether the next request follows."""
        request = item["request"]
        assert not [each for each in request["url"].get("query", []) if not each.get("disabled")]
        headers = {each["key"]: each["value"] for each in request["header"] if not each.get("disabled")}
        if request.get("auth", {}).get("type") != "noauth":
            headers["Authorization"] = f"Bearer {self.values['api_key']}"
        body = self._filled(request["body"]["raw"]).encode() if "body" in request else None
        response = client.request(request["method"], self._filled(request["url"]["raw"]), headers=headers, content=body)
        first, *lines = script.split("\n")
        status = re.fullmatch(STATUS, first)
        assert status and response.status_code == int(status[1]), (item["name"], first, response.text)
        while lines and (match := re.fullmatch(SET, lines[0])):
            found: Any = response.json()
            for part in re.findall(r"\w+", match[2]):
                found = found[int(part) if part.isdecimal() else part]
            self.values[match[1]] = str(found)
            lines.pop(0)
        if not lines:
            return True
        match = re.fullmatch(REPEAT, "\n".join(lines))
        assert match, script
        state = response.json()[match[2]]
        if state in json.loads(match[1]):
            return False
        assert state == "completed", (item["name"], response.text)
        return True


@pytest.mark.slow
def test_the_collection_passes_when_it_is_run_in_order(openapi: dict[str, Any], tmp_path: Path) -> None:
    found = collection(openapi)
    with working(tmp_path) as at:
        replay = Replay(found, base_url=at.live.url)
        replay.run(found, at.http)
        assert len(replay.passed) > 60 and {name.split("_")[-1] for name in replay.skipped} <= {
            "webhook",
            "webhooks",
            "deliveries",
        }


def test_the_collection_makes_webhooks_where_their_host_is_allowed(openapi: dict[str, Any], tmp_path: Path) -> None:
    found = collection(openapi)
    found["item"] = [folder for folder in found["item"] if folder["name"].startswith("webhook")]
    with live(tmp_path, webhook_hosts=("hooks.example.com",)) as service:
        replay = Replay(found, base_url=service.url, webhook_url="https://hooks.example.com/flickbook")
        replay.run(found, service.http)
    assert not replay.skipped and len(replay.passed) == 9


@pytest.mark.slow
def test_the_calls_of_docs_api_md_succeed(tmp_path: Path) -> None:
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


def test_docs_api_md_lists_exactly_the_routes(openapi: dict[str, Any]) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(GET|POST|DELETE) (/(?:api/v1|media)/[a-z/{}_]+)` \|", text, re.MULTILINE))
    real = {
        (verb.upper(), path)
        for path, operations in openapi["paths"].items()
        for verb in operations
        if path.startswith(("/api/v1/", "/media/"))
    }
    assert named == real
