"""The SDK's own client in front of the real server: in this process, or over stdio."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from mcp import Client, StdioServerParameters, types
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult
from tests.patience import PATIENCE

from flickbook import settings
from flickbook.agents.protocol import server_of
from flickbook.agents.stdio import Local
from flickbook.agents.tasks import EXTENSION, CancelTask, GetTask, UpdateTask
from flickbook.agents.tool import Parts
from flickbook.jobs.api_keys import Scope
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.server.service import Service
from flickbook.server.submission.queue_position import Line
from flickbook.store.sqlite.store import SqliteStore

#: What makes a film of the built-in model in a moment.
QUICK: dict[str, Any] = {"num_inference_steps": 2, "num_frames": 4, "seed": 7}
RED = "a red circle moving left on a blue background"


class TaskResult(types.Result):
    """A task, as a client reads it."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    poll_interval_ms: int | None = None


class State(types.Result):
    """The answer to tasks/get."""

    task_id: str
    status: str
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    result: dict[str, Any] | None = None


class GetTaskRequest(types.Request[GetTask, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: GetTask
    name_param = "taskId"


class CancelTaskRequest(types.Request[CancelTask, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: CancelTask
    name_param = "taskId"


class UpdateTaskRequest(types.Request[UpdateTask, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateTask
    name_param = "taskId"


class Tasks(ClientExtension):
    """The client's side of the extension: it polls a task until it is done. `seen` are the ids of its tasks."""

    identifier = EXTENSION

    def __init__(self) -> None:
        self.seen: list[str] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=TaskResult, resolve=self._resolved),)

    async def _resolved(self, task: TaskResult, context: ClaimContext) -> CallToolResult:
        self.seen.append(task.task_id)
        while True:
            request = GetTaskRequest(params=GetTask(task_id=task.task_id))
            state = await context.session.send_request(request, State)
            if state.status == "completed":
                return CallToolResult.model_validate(state.result, by_name=False)
            assert state.status == "working", state
            await asyncio.sleep(0.1)


async def state_of(client: Client, id: str) -> State:
    """The state of a task."""
    return await client.session.send_request(GetTaskRequest(params=GetTask(task_id=id)), State)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a conversation. The limit only ends one that hangs."""
    asyncio.run(asyncio.wait_for(work, PATIENCE))


@asynccontextmanager
async def service_at(place: Path) -> AsyncIterator[Service]:
    """A service on a store in `place`, without workers."""
    store = SqliteStore(place / "flickbook.db")
    await store.open()
    try:
        yield Service(store, ArtifactStore(place / "jobs"), settings.load(), workers=0)
    finally:
        await store.close()


@asynccontextmanager
async def talking(
    service: Service, *scopes: Scope, roots: Sequence[Path] = (), **options: Any
) -> AsyncIterator[Client]:
    """A client of the server in this process, for the local user."""
    access = Local(service, scopes or ("read", "create"), roots)

    async def began() -> None:
        """There are no workers."""

    parts = Parts(service, Line(service.queue, service.live_workers), lambda _: access, asyncio.Event(), began)
    async with Client(server_of(parts), **options) as client:
        yield client


def command_line(place: Path, *words: str) -> StdioServerParameters:
    """`flickbook mcp` on a store in `place`."""
    env = dict(os.environ) | {"FLICKBOOK_DATA_DIR": str(place), "FLICKBOOK_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return StdioServerParameters(command=sys.executable, args=["-m", "flickbook", "mcp", *words], env=env)


@asynccontextmanager
async def over_stdio(place: Path, *words: str, **options: Any) -> AsyncIterator[Client]:
    """A client of `flickbook mcp`, which it starts."""
    async with Client(stdio_client(command_line(place, *words)), **options) as client:
        yield client


async def ask(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured content of a tool's result."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """The line with which a tool refuses."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    """The text of a result."""
    (text,) = [each.text for each in result.content if isinstance(each, types.TextContent)]
    return text
