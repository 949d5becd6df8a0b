"""Models fetched over HTTP: one at a time, each by a process that ends when the service does."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from flickbook import catalogue, settings
from flickbook.catalogue import Model
from flickbook.errors import LimitReached, RequestError
from flickbook.hub.find import found
from flickbook.server.errors import refusals
from flickbook.server.guard import admin, reader
from flickbook.server.service import Caller
from flickbook.server.told import ROOT

Reader = Annotated[Caller, Depends(reader)]
Admin = Annotated[Caller, Depends(admin)]
#: Seconds in which a process that is to leave may do so, and after which another model may be asked for again.
_PATIENCE: Final = 5.0
_BUSY: Final = 30.0
router = APIRouter(tags=["models"])

logger = logging.getLogger(__name__)


class PullTold(BaseModel):
    """How far the fetching of a model is: `bytes` of its large files, of so many in `total` where that is known."""

    state: Literal["absent", "pulling", "done", "failed"]
    bytes: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] | None = None
    error: str | None = None


class Pulls:
    """What this service has fetched since it began, and what it fetches now."""

    def __init__(self) -> None:
        self._told: dict[str, PullTold] = {}
        self._name = ""
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str) -> None:
        """Fetch a model, unless that is what is being done. Raises LimitReached where it is another."""
        if self._task is not None and not self._task.done():
            if name != self._name:
                limit = f"{self._name} is being pulled, and models come one at a time"
                raise LimitReached("model", name, limit, "ask again when it is here", _BUSY)
            return
        self._name, self._told[name] = name, PullTold(state="pulling")
        self._task = asyncio.create_task(self._run(name))

    def of(self, name: str) -> PullTold | None:
        """How far a model is that was asked for; None for another."""
        return self._told.get(name)

    async def stop(self) -> None:
        """End what is being fetched; a later pull goes on from there."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, name: str) -> None:
        try:
            error = await self._fetched(name)
        except OSError as problem:
            error = f"no process for it: {problem.strerror or problem}"
        except Exception as problem:
            logger.exception("%s is not pulled", name)
            error = f"unexpected {type(problem).__name__}"
        told = self._told[name]
        if error:
            logger.error("%s is not pulled: %s", name, error)
            self._told[name] = told.model_copy(update={"state": "failed", "error": error})
        else:
            self._told[name] = told.model_copy(update={"state": "done"})

    async def _fetched(self, name: str) -> str:
        """Fetch a model by a process of its own; what was wrong, or "" if nothing."""
        words = [sys.executable, "-m", "flickbook.hub.fetching", name]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=settings.inherited()
        )
        assert process.stdout is not None
        error = ""
        try:
            async for line in process.stdout:
                said = json.loads(line)
                error = said.pop("error", error)
                self._told[name] = self._told[name].model_copy(update=said)
            code = await process.wait()
        finally:
            await _ended(process)
        return error or (f"its process ended with exit code {code}; pull again" if code else "")


async def _ended(process: Process) -> None:
    """Have a process leave that is still there."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()


def _pulls_of(request: Request) -> Pulls:
    found = request.app.state.pulls
    assert isinstance(found, Pulls)
    return found


async def _now(pulls: Pulls, model: Model, caller: Caller) -> PullTold:
    """How far a model is; a reader is not told of the directories that an error names."""
    told = pulls.of(model.name)
    if told is not None and told.state == "pulling":
        return told
    if await asyncio.to_thread(found, model):
        return (told or PullTold(state="done")).model_copy(update={"state": "done", "error": None})
    if told is None or told.state != "failed":
        return PullTold(state="absent")
    if "admin" in caller.scopes:
        return told
    return told.model_copy(update={"error": "it could not be pulled; the service's log says why"})


@router.post(f"{ROOT}/models/{{name}}/pull", operation_id="pull_model", status_code=202, responses=refusals(404))
async def pull(name: str, request: Request, caller: Admin) -> PullTold:
    """Start fetching a model's files, going on where that stopped before; models come one at a time."""
    model, pulls = await asyncio.to_thread(catalogue.find, name), _pulls_of(request)
    told = await _now(pulls, model, caller)
    if told.state in ("absent", "failed"):
        if not model.repo:
            raise RequestError("model", model.name, "names no repository", "put its files where they were")
        pulls.start(model.name)
        told = await _now(pulls, model, caller)
    return told


@router.get(f"{ROOT}/models/{{name}}/pull", operation_id="show_pull", responses=refusals(404))
async def show_pull(name: str, request: Request, caller: Reader) -> PullTold:
    """How far the fetching of a model's files is, or that they are here."""
    model = await asyncio.to_thread(catalogue.find, name)
    return await _now(_pulls_of(request), model, caller)
