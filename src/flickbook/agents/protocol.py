"""The MCP server: it lists the tools that a caller may use, calls them, and reports their errors as results.

Everything that a caller sees is checked for each request, so a server needs no session, and a restart loses nothing.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from starlette.exceptions import HTTPException

from flickbook import __version__
from flickbook.agents import resources, tasks
from flickbook.agents.arguments import schema_of
from flickbook.agents.catalogue import TOOLS
from flickbook.agents.results import Films
from flickbook.agents.tool import Answer, Call, Parts, Tool
from flickbook.errors import FlickbookError, JobNotFound, ModelNotPulled, shown
from flickbook.server.api.requests import validated
from flickbook.server.errors import refusal

INSTRUCTIONS: Final = (
    "Flickbook makes short films from prompts with the video models of this machine. A job makes a film; its id stays "
    "valid after a restart. A usual course: list_models, draft_films, wait_for_films, look, finish_drafts with the "
    "good ones, wait_for_films. A single film: make_film, wait_for_films, look. Show your user the url of a film."
)
#: The errors that a caller can do something about.
ANTICIPATED: Final = (FlickbookError, HTTPException)
Context = ServerRequestContext[Any, Any]
T = TypeVar("T")

logger = logging.getLogger(__name__)


def server_of(parts: Parts) -> Server[Any]:
    """Return the SDK's server for the tools, with resources and tasks."""
    handlers = Handlers(parts)
    server: Server[Any] = Server(
        "flickbook",
        title="Flickbook",
        version=__version__,
        instructions=INSTRUCTIONS,
        get_tool_input_schema=lambda name: _SCHEMAS[name] if name in TOOLS else None,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_resource_templates,
        on_read_resource=handlers.read_resource,
    )
    server.extensions[tasks.EXTENSION] = {}
    server.add_request_handler("tasks/get", tasks.GetTask, handlers.get_task)
    server.add_request_handler("tasks/update", tasks.UpdateTask, handlers.update_task)
    server.add_request_handler("tasks/cancel", tasks.CancelTask, handlers.cancel_task)
    return server


class Handlers:
    """The handlers of the protocol's requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_tools(self, context: Context, _: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """List the tools that the caller's scopes allow."""
        call = await self._admitted(context)
        scopes = call.caller.scopes
        return types.ListToolsResult(
            tools=[_described(tool) for tool in TOOLS.values() if scopes & {tool.scope, "admin"}]
        )

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> Any:
        """Call a tool. An error is a result that the agent can read, except for an unknown tool."""
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"{shown(params.name)}: no such tool; tools/list names them")
        try:
            call = await self._call(context, tool.scope)
            answer = await tool.run(call, validated(tool.fields, params.arguments or {}, "call"))
        except ANTICIPATED as error:
            return types.CallToolResult(content=[_text(message_of(error))], is_error=True)
        except Exception:
            logger.exception("unexpected error in the tool %s", tool.name)
            text = "unexpected error; see the log of the server"
            return types.CallToolResult(content=[_text(text)], is_error=True)
        if tool.makes and tasks.are_declared(context):
            assert isinstance(answer.value, Films)
            return tasks.created(answer.value)
        return result_of(answer)

    async def list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """List the newest films."""
        call = await self._admitted(context)
        return await _protocol_errors(resources.listed(call, None if params is None else params.cursor))

    async def list_resource_templates(
        self, context: Context, _: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """List the kinds of resources."""
        await self._admitted(context)
        return types.ListResourceTemplatesResult(resource_templates=list(resources.TEMPLATES))

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Read a film, its contact sheet or its recipe."""
        call = await self._admitted(context)
        return await _protocol_errors(resources.read(call, str(params.uri)))

    async def get_task(self, context: Context, params: tasks.GetTask) -> dict[str, Any]:
        """Return the state of a task, and its result if it is done."""
        tasks.require_declared(context)
        call = await self._admitted(context)
        films = await _protocol_errors(tasks.films_of_task(call, params.task_id))
        return tasks.detailed(films, result_of(Answer(films)))

    async def update_task(self, context: Context, params: tasks.UpdateTask) -> dict[str, Any]:
        """Acknowledge input for a task. No task asks for input, so it is ignored."""
        tasks.require_declared(context)
        await _protocol_errors(tasks.films_of_task(await self._admitted(context), params.task_id))
        return {}

    async def cancel_task(self, context: Context, params: tasks.CancelTask) -> dict[str, Any]:
        """Cancel the jobs of a task."""
        tasks.require_declared(context)
        call = await _protocol_errors(self._call(context, "create"))
        await _protocol_errors(tasks.cancel(call, params.task_id))
        return {}

    async def _admitted(self, context: Context) -> Call:
        """Return the call of a reader. Raises MCPError."""
        return await _protocol_errors(self._call(context, "read"))

    async def _call(self, context: Context, scope: Any) -> Call:
        access = self._parts.access(context.request)
        caller = await access.admit(scope)

        async def report(share: float, text: str) -> None:
            await context.session.report_progress(share, 1.0, text)

        return Call(self._parts, access, caller, report)


async def _protocol_errors(work: Awaitable[T]) -> T:
    """Await `work` and turn its errors into those of the protocol."""
    try:
        return await work
    except ANTICIPATED as error:
        raise MCPError(types.INVALID_PARAMS, message_of(error)) from None


def message_of(error: Exception) -> str:
    """Return the line about an error that the service would send, which names no path of this machine.

    A remedy that is a command or a request is replaced by one that an agent can follow.
    """
    if isinstance(error, ModelNotPulled):
        return str(error)
    if isinstance(error, JobNotFound):
        return f"{error.field}={shown(error.value)}: {error.limit}; search_films finds them"
    response = refusal({"type": "http", "path": ""}, error)
    return _OPTION.sub(_argument, str(json.loads(bytes(response.body))["error"]["message"]))


def _argument(option: re.Match[str]) -> str:
    """Return the argument of a tool that a command line option is called here, or the option if there is none."""
    name = option[1].replace("-", "_")
    name = _RENAMED.get(name, name)
    return name if any(name in tool.fields.model_fields for tool in TOOLS.values()) else option[0]


def result_of(answer: Answer) -> types.CallToolResult:
    """Return an answer as a result: JSON as structured content and as text, pictures, and links to finished films."""
    fields = answer.value.model_dump(mode="json", exclude_none=True)
    content: list[types.ContentBlock] = [_text(json.dumps(fields, ensure_ascii=False))]
    for picture in answer.pictures:
        data = base64.b64encode(picture).decode("ascii")
        content.append(types.ImageContent(type="image", data=data, mime_type="image/png"))
    for film in answer.value.films if isinstance(answer.value, Films) else ():
        if film.url is not None:
            content.append(resources.link(film))
    return types.CallToolResult(content=content, structured_content=fields)


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _described(tool: Tool) -> types.Tool:
    """Return a tool as the protocol describes it."""
    reads = tool.scope == "read"
    cancels = tool.name == "cancel_jobs"
    return types.Tool(
        name=tool.name,
        title=tool.name.replace("_", " ").capitalize(),
        description=" ".join((tool.run.__doc__ or "").split()),
        input_schema=_SCHEMAS[tool.name],
        output_schema=tool.answer.model_json_schema(),
        annotations=types.ToolAnnotations(
            read_only_hint=reads,
            destructive_hint=cancels,
            idempotent_hint=reads or tool.repeatable,
            open_world_hint=False,
        ),
    )


#: An option of the command line in a remedy, and the arguments that have other names than their options.
_OPTION: Final = re.compile(r"--([a-z][a-z-]*[a-z])(?: PATH)?")
_RENAMED: Final = {"condition": "conditions", "reference_image": "reference_images", "audio": "track"}
_SCHEMAS: Final = {name: schema_of(tool.fields) for name, tool in TOOLS.items()}
