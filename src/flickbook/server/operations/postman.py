"""A Postman collection of the service, generated from its OpenAPI document.

`python -m flickbook.server.operations.postman > docs/flickbook.postman_collection.json`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

from flickbook import settings
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.server.app import create_app
from flickbook.server.service import Service
from flickbook.store.base import Store

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_VERBS: Final = ("get", "post", "put", "patch", "delete")
_USUAL: Final[dict[str, Any]] = {"string": "", "integer": 1, "number": 1.0, "boolean": False, "array": [], "object": {}}
#: The Postman variable for each path parameter.
_IDS: Final = {"id": "job_id", "video_id": "video_id", "name": "model", "model": "model", "kind": "kind"}


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the service without opening a store."""
    service = Service(cast(Store, None), ArtifactStore(Path("jobs")), settings.load())
    return create_app(service).openapi()


def collection(openapi: dict[str, Any]) -> dict[str, Any]:
    """Return the collection: a folder for each tag, a request for each operation, one API key for all."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, operations in openapi["paths"].items():
        for verb in _VERBS:
            if verb in operations:
                operation = operations[verb]
                tag = (operation.get("tags") or ["service"])[0]
                folders.setdefault(tag, []).append(_item(openapi, path, verb, operation))
    variables = {"base_url": "http://127.0.0.1:8000", "api_key": ""} | dict.fromkeys(sorted(set(_IDS.values())), "")
    return {
        "info": {
            "name": openapi["info"]["title"],
            "description": openapi["info"].get("summary", ""),
            "schema": SCHEMA,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}]},
        "variable": [{"key": key, "value": value} for key, value in variables.items()],
        "item": [{"name": tag, "item": items} for tag, items in sorted(folders.items())],
    }


def _item(openapi: dict[str, Any], path: str, verb: str, operation: dict[str, Any]) -> dict[str, Any]:
    parts = [_part(part) for part in path.strip("/").split("/")]
    given = [_resolved(openapi, each) for each in operation.get("parameters", [])]
    query = [_parameter(openapi, each) for each in given if each["in"] == "query"]
    address = "{{base_url}}/" + "/".join(parts)
    request: dict[str, Any] = {
        "method": verb.upper(),
        "description": operation.get("description") or operation.get("summary", ""),
        "header": [_parameter(openapi, each) for each in given if each["in"] == "header"],
        "url": {"raw": address, "host": ["{{base_url}}"], "path": parts, "query": query},
    }
    body = _body(openapi, operation.get("requestBody", {}).get("content", {}))
    if body is not None:
        request["body"] = body
    if body is not None and body["mode"] == "raw":
        request["header"].append({"key": "Content-Type", "value": "application/json"})
    return {"name": operation.get("operationId") or operation.get("summary") or path, "request": request}


def _part(part: str) -> str:
    name = part.strip("{}")
    return f"{{{{{_IDS.get(name, name)}}}}}" if part.startswith("{") else part


def _parameter(openapi: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    schema = _resolved(openapi, parameter.get("schema", {}))
    found = {"key": parameter["name"], "value": str(schema.get("default", "") or ""), "disabled": True}
    if parameter.get("required"):
        del found["disabled"]
    return found | ({"description": parameter["description"]} if "description" in parameter else {})


def _body(openapi: dict[str, Any], content: dict[str, Any]) -> dict[str, Any] | None:
    """Return a JSON body if the operation accepts JSON, else a form."""
    if "application/json" in content:
        media = content["application/json"]
        example = media.get("example", _example(openapi, media.get("schema", {})))
        text = json.dumps(example, indent=2, ensure_ascii=False)
        return {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}
    if "multipart/form-data" in content:
        schema = _resolved(openapi, content["multipart/form-data"].get("schema", {}))
        fields = []
        for name, each in schema.get("properties", {}).items():
            resolved = _resolved(openapi, each)
            binary = resolved.get("format") == "binary" or "contentMediaType" in resolved
            needed = name in schema.get("required", [])
            field = {"key": name, "type": "file", "src": ""} if binary else {"key": name, "type": "text", "value": ""}
            fields.append(field if needed else field | {"disabled": True})
        return {"mode": "formdata", "formdata": fields}
    return None


def _resolved(openapi: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = openapi
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _example(openapi: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Return an example value for a schema: its example, its default, or its required fields."""
    schema = _resolved(openapi, schema)
    for name in ("example", "default", "const"):
        if name in schema:
            return schema[name]
    if schema.get("examples"):
        return schema["examples"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return _example(openapi, schema[name][0])
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        needed = schema.get("required", [])
        return {name: _example(openapi, schema["properties"][name]) for name in needed}
    return _USUAL.get(schema.get("type", "string"))


if __name__ == "__main__":
    print(json.dumps(collection(document()), indent=1, ensure_ascii=False))
