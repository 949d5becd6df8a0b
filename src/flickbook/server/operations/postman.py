"""A Postman collection of the service, generated from its OpenAPI document and the steps of `postman_steps.py`.

`python -m flickbook.server.operations.postman > docs/flickbook.postman_collection.json`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

from flickbook import settings
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.server.app import create_app
from flickbook.server.operations.postman_steps import FOLDERS, VARIABLES, Step
from flickbook.server.operations.reference import VERBS, resolved
from flickbook.server.service import Service
from flickbook.store.base import Store

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
#: The Postman variable for each path parameter, unless the step names another one.
_IDS: Final = {"id": "job_id", "video_id": "video_id", "name": "model", "model": "model"}
_ABOUT: Final = """Requests to every endpoint of Flickbook, but for the stream of all events, which does not end.

Start `flickbook serve` with one or two workers, set `base_url` and, if the service has keys, `api_key` (with the scopes
create, read and admin), and run the collection: requests store the ids that later ones need, and wait for films. The
requests about webhooks are skipped unless `webhook_url` is set, to a URL on a host that `--webhook-host` allows."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the service without opening a store."""
    service = Service(cast(Store, None), ArtifactStore(Path("jobs")), settings.load())
    return create_app(service).openapi()


def collection(openapi: dict[str, Any]) -> dict[str, Any]:
    """Return the collection. Its requests run in their order, and each checks the status of its response."""
    operations = {
        operation["operationId"]: (path, verb, operation)
        for path, verbs in openapi["paths"].items()
        for verb, operation in verbs.items()
        if verb in VERBS
    }
    captured = {name: "" for steps in FOLDERS.values() for step in steps for name in step.sets}
    return {
        "info": {"name": openapi["info"]["title"], "description": _ABOUT, "schema": SCHEMA},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}]},
        "variable": [{"key": key, "value": value} for key, value in (VARIABLES | captured).items()],
        "item": [
            {"name": folder, "item": [_item(openapi, step, *operations[step.operation]) for step in steps]}
            for folder, steps in FOLDERS.items()
        ],
    }


def _item(openapi: dict[str, Any], step: Step, path: str, verb: str, operation: dict[str, Any]) -> dict[str, Any]:
    parts = [_part(part, step) for part in path.strip("/").split("/")]
    parameters = [resolved(openapi, each) for each in operation.get("parameters", [])]
    address: dict[str, Any] = {"raw": "{{base_url}}/" + "/".join(parts), "host": ["{{base_url}}"], "path": parts}
    address["query"] = [_parameter(openapi, each) for each in parameters if each["in"] == "query"]
    request: dict[str, Any] = {
        "method": verb.upper(),
        "description": operation.get("description") or operation.get("summary", ""),
        "header": [_parameter(openapi, each) for each in parameters if each["in"] == "header"],
        "url": {"raw": step.url, "host": [step.url]} if step.url else address,
    }
    if step.raw is not None:
        kind, text = step.raw
        request["header"].append({"key": "Content-Type", "value": kind})
        request["body"] = {"mode": "raw", "raw": text}
    elif step.body is not None:
        text = json.dumps(step.body, indent=2, ensure_ascii=False)
        request["header"].append({"key": "Content-Type", "value": "application/json"})
        request["body"] = {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}
    if step.url:
        request["auth"] = {"type": "noauth"}
    name = f"{step.operation} {step.about}".strip()
    return {"name": name, "event": _events(step, operation), "request": request}


def _events(step: Step, operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scripts of a request: whether it runs, its expected status, and the variables that it sets."""
    status = next(code for code in operation["responses"] if code.startswith("2"))
    lines = [f'pm.test("status {status}", () => pm.response.to.have.status({status}));']
    lines += [f'pm.collectionVariables.set("{name}", pm.response.json().{at});' for name, at in step.sets.items()]
    if step.until:
        found = f"pm.response.json().{step.until}"
        lines += [
            f'if (["queued", "running", "in_progress"].includes({found})) {{',
            "  setTimeout(() => {}, 500);",
            "  pm.execution.setNextRequest(pm.info.requestName);",
            "} else {",
            f'  pm.test("completed", () => pm.expect({found}).to.eql("completed"));',
            "}",
        ]
    events = [_event("test", lines)]
    if step.needs:
        skip = f'if (!pm.collectionVariables.get("{step.needs}")) pm.execution.skipRequest();'
        events.insert(0, _event("prerequest", [skip]))
    return events


def _event(listen: str, lines: list[str]) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": lines}}


def _part(part: str, step: Step) -> str:
    name = part.strip("{}")
    return f"{{{{{step.ids.get(name, _IDS.get(name, name))}}}}}" if part.startswith("{") else part


def _parameter(openapi: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    schema = resolved(openapi, parameter.get("schema", {}))
    found = {"key": parameter["name"], "value": str(schema.get("default", "") or ""), "disabled": True}
    if parameter.get("required"):
        del found["disabled"]
    return found | ({"description": parameter["description"]} if "description" in parameter else {})


if __name__ == "__main__":
    print(json.dumps(collection(document()), indent=1, ensure_ascii=False))
