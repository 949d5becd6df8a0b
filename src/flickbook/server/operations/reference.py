"""The API reference at /docs: one page of HTML, written from the OpenAPI document, without scripts or other files."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from flickbook.server.errors import DESCRIPTIONS, EVERYWHERE

router = APIRouter(include_in_schema=False)

#: The order of the tags, and what each is about; other tags follow.
TAGS: Final = {
    "jobs": "Films and images as jobs of the queue: create, list, cancel, pause, resume, retry.",
    "drafts": "Start many films, stop them early, and finish the chosen ones.",
    "sequences": "Films of related images from several prompts.",
    "shots": "Films of several shots, each with its own prompt and length.",
    "batches": "One job for each row of a table.",
    "files": "Films, previews, thumbnails and recipes of jobs, and links to them that need no key.",
    "events": "Progress as server-sent events.",
    "models": "Models, downloads, LoRAs, this machine, and memory and time estimates.",
    "recipes": "How a film was made, read from its file.",
    "webhooks": "Signed messages to your server when jobs end.",
    "videos": "/v1/videos, compatible with the OpenAI client.",
    "images": "/v1/images, compatible with the OpenAI client.",
    "webhook endpoints": "/v1/webhook_endpoints, compatible with the OpenAI client.",
    "operations": "Health, readiness and metrics.",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e;"
    "background:#fff}h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}"
    "summary{cursor:pointer;padding:.3rem 0}summary code{font-weight:600}pre,table{font-size:.9rem}"
    "pre{background:#f4f4f6;padding:.7rem;overflow-x:auto}td,th{text-align:left;padding:.15rem .8rem .15rem 0;"
    "vertical-align:top}nav a{margin-right:1rem}.verb{display:inline-block;min-width:4.5rem;color:#0a5}"
    "@media(prefers-color-scheme:dark){body{background:#17171a;color:#eee}pre{background:#26262b}a{color:#8bf}}"
)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
VERBS: Final = ("get", "post", "put", "patch", "delete")


@router.get("/")
async def index(request: Request) -> Response:
    """Redirect to the studio if it runs, and to the API reference if not."""
    studio = any(getattr(route, "path", "").startswith("/studio") for route in request.app.routes)
    return RedirectResponse("/studio/" if studio else "/docs", 307)


@router.get("/docs")
async def reference(request: Request) -> Response:
    """The API reference."""
    return HTMLResponse(page(request.app.openapi()), headers={"content-security-policy": _POLICY})


def page(document: dict[str, Any]) -> str:
    """The reference of an OpenAPI document as HTML: a section for each tag, an entry for each operation."""
    sections: dict[str, list[str]] = {tag: [] for tag in TAGS}
    for path, operations in document["paths"].items():
        for verb in VERBS:
            if verb in operations:
                tag = (operations[verb].get("tags") or ["operations"])[0]
                sections.setdefault(tag, []).append(_operation(document, path, verb, operations[verb]))
    filled = {tag: entries for tag, entries in sections.items() if entries}
    links = " ".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in filled)
    body = [
        f'<h2 id="{_anchor(tag)}">{escape(tag.capitalize())}</h2><p>{escape(TAGS.get(tag, ""))}</p>{"".join(entries)}'
        for tag, entries in filled.items()
    ]
    refused = "".join(f"<tr><td>{status}</td><td>{escape(DESCRIPTIONS[status])}</td></tr>" for status in EVERYWHERE)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flickbook API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>Flickbook API {escape(document['info']['version'])}</h1>"
        "<p>Send an API key, created with <code>flickbook keys create</code>, as "
        "<code>Authorization: Bearer KEY</code>; while no key exists, requests from this machine need none. "
        'Machine-readable: <a href="/openapi.json">openapi.json</a>.</p>'
        f'<nav>{links}</nav>{"".join(body)}<h2 id="errors">Errors</h2><p>Every error is JSON: <code>{{"error": '
        '{"code", "message", "field"}}</code>. Any request may return:</p>'
        f"<table>{refused}</table></body></html>"
    )


def _anchor(tag: str) -> str:
    return escape(tag.replace(" ", "-"))


def _operation(document: dict[str, Any], path: str, verb: str, operation: dict[str, Any]) -> str:
    """One operation: its address and summary, and folded below it the parameters, the body and the answers."""
    parameters = [resolved(document, each) for each in operation.get("parameters", [])]
    fields = [(each["name"], each["in"], {**each.get("schema", {}), **each}) for each in parameters]
    fields += [(name, "body", resolved(document, each)) for name, each in _fields(document, operation).items()]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{place}</td><td>{escape(each.get('description', ''))}</td></tr>"
        for name, place, each in fields
    )
    inside = f"<p>{escape(operation.get('description', ''))}</p>"
    inside += f"<table><tr><th>Parameter</th><th>In</th><th></th></tr>{rows}</table>" if rows else ""
    example = _body(document, operation)
    sent = "" if example is None else f" -H 'Content-Type: application/json' -d '{json.dumps(example)}'"
    inside += f"<pre>{escape(f'curl -X {verb.upper()} http://127.0.0.1:8000{path}{sent}')}</pre>"
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(response.get('description', ''))}</td></tr>"
        for status, response in operation["responses"].items()
        if int(status) not in EVERYWHERE
    )
    inside += f"<table><tr><th>Status</th><th></th></tr>{answers}</table>"
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><span class="verb">{verb.upper()}</span> '
        f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>{inside}</details>"
    )


def _body(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any] | None:
    """An example of a JSON body: its required fields, None if the operation takes no JSON."""
    if "application/json" not in operation.get("requestBody", {}).get("content", {}):
        return None
    fields, required = _fields(document, operation), _schema(document, operation).get("required")
    names = required or [name for name in ("prompt",) if name in fields]
    return {name: _example(name, resolved(document, fields.get(name, {}))) for name in names}


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """The fields of a JSON body and their schemas."""
    return dict(_schema(document, operation).get("properties", {}))


def _schema(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return resolved(document, content.get("schema", {}))


def _example(name: str, schema: dict[str, Any]) -> Any:
    """A value of one field."""
    if "prompt" in name:
        text = "a red circle moving left on a blue background"
        return [text, "a blue square"] if schema.get("type") == "array" else text
    values = {"string": "…", "integer": 1, "number": 1.0, "boolean": False, "array": [], "object": {}}
    return values.get(schema.get("type", "string"))


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A part of the document, with a reference followed."""
    found: Any = document
    for name in schema.get("$ref", "#").removeprefix("#").strip("/").split("/"):
        found = found[name] if name else schema
    return dict(found)
