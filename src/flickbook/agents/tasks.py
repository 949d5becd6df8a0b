"""Films as tasks: the extension `io.modelcontextprotocol/tasks` of the protocol version 2026-07-28.

A client that declares the extension receives a task in place of the result of a tool that makes films. The id of a task
is the id of its job; for several jobs, their ids joined by "+". Jobs are in the store, so a task needs no memory of its
own, and a client can follow it after a restart of the server, or through another server on the same store.
"""

from __future__ import annotations

from typing import Any, Final

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from flickbook.agents.looking import cancelled, status
from flickbook.agents.results import Film, Films, films_of
from flickbook.agents.tool import Call
from flickbook.errors import JobNotFound
from flickbook.server.api.requests import MAX_DRAFTS
from flickbook.store.base import DONE

EXTENSION: Final = "io.modelcontextprotocol/tasks"
#: Suggested milliseconds between two polls.
_POLL: Final = 1000
_JOINT: Final = "+"


class GetTask(types.RequestParams):
    """The parameters of tasks/get."""

    task_id: str


class CancelTask(types.RequestParams):
    """The parameters of tasks/cancel."""

    task_id: str


class UpdateTask(types.RequestParams):
    """The parameters of tasks/update."""

    task_id: str
    input_responses: dict[str, Any] | None = None


def are_declared(context: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of a request declared the extension, in a version of the protocol that has it."""
    declared = context.session.client_capabilities
    extensions = None if declared is None else declared.extensions
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS and EXTENSION in (extensions or {})


def require_declared(context: ServerRequestContext[Any, Any]) -> None:
    """Raise MCPError for a client that did not declare the extension, or whose protocol version has none."""
    if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(types.METHOD_NOT_FOUND, "Method not found", context.method)
    if not are_declared(context):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, f"the client must declare {EXTENSION}", needed)


def created(films: Films) -> dict[str, Any]:
    """Return the result that hands out the task of new jobs."""
    return _task(films.films, "working") | {"resultType": "task"}


async def films_of_task(call: Call, id: str) -> Films:
    """Return the films of a task. Raises JobNotFound."""
    ids = id.split(_JOINT)
    if len(ids) > MAX_DRAFTS:
        raise JobNotFound(id)
    return await films_of(call, [await call.job(each) for each in ids])


def detailed(films: Films, result: types.CallToolResult) -> dict[str, Any]:
    """Return the state of a task; `result` is the result of its tool once it is done."""
    states = {film.state for film in films.films}
    if not states <= set(DONE):
        return _task(films.films, "working")
    if states == {"cancelled"}:
        return _task(films.films, "cancelled")
    if "completed" not in states:
        # In the protocol "failed" is for errors of the protocol; a film that failed is a result with an error.
        text = "; ".join(f"{film.id}: {film.error or film.state}" for film in films.films)
        result = types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
    return _task(films.films, "completed") | {
        "result": result.model_dump(mode="json", by_alias=True, exclude_none=True)
    }


async def cancel(call: Call, id: str) -> None:
    """Ask the jobs of a task to end. Raises JobNotFound."""
    for film in (await films_of_task(call, id)).films:
        await cancelled(call, await call.job(film.id))


def _task(films: list[Film], state: str) -> dict[str, Any]:
    return {
        "taskId": _JOINT.join(film.id for film in films),
        "status": state,
        "statusMessage": status(films),
        "createdAt": min(film.created_at for film in films),
        "lastUpdatedAt": max(film.changed_at for film in films),
        "ttlMs": None,
        "pollIntervalMs": _POLL,
    }
