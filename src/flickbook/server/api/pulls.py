"""Model downloads over HTTP: one at a time, each in a child process that ends with the service."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from flickbook import catalogue, settings
from flickbook.catalogue import Model
from flickbook.errors import FlickbookError, LimitReached, RequestError
from flickbook.hub.find import found, to_pull
from flickbook.jobs import queue
from flickbook.server.access.dependencies import Admin, Reader
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission.idempotency import AdminKey
from flickbook.store.base import Query, State

#: Seconds that a process has to exit, and the retry-after while another model is being downloaded.
_PATIENCE: Final = 5.0
_BUSY: Final = 30.0
#: Seconds between two progress reports, and the most queued jobs looked at together.
_TELL: Final = 0.5
_LOOKED_AT: Final = 1000
_QUEUED: Final[tuple[State, ...]] = ("queued",)
router = APIRouter(tags=["models"])

logger = logging.getLogger(__name__)


class PullResponse(BaseModel):
    """The progress of a model's download: `bytes` of its large files, and their `total` if known."""

    state: Literal["absent", "pulling", "done", "failed"]
    bytes: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] | None = None
    error: str | None = None


class Pulls:
    """The downloads of this service: the current one, and those since it started."""

    def __init__(self) -> None:
        self._progress: dict[str, PullResponse] = {}
        self._name = ""
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str) -> None:
        """Start the download of a model, unless it is running. Raises LimitReached while another model is
        downloaded."""
        if self._task is not None and not self._task.done():
            if name != self._name:
                limit = f"{self._name} is being downloaded, and only one model at a time can be"
                raise LimitReached("model", name, limit, "try again when it is complete", _BUSY)
            return
        self._name, self._progress[name] = name, PullResponse(state="pulling")
        self._task = asyncio.create_task(self._run(name))

    def of(self, name: str) -> PullResponse | None:
        """Return the progress of a download; None if this model was not requested."""
        return self._progress.get(name)

    async def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the current download. Returns whether none is running."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)
        return self._task is None or self._task.done()

    async def stop(self) -> None:
        """Stop the current download; a later one continues from there."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, name: str) -> None:
        try:
            error = await self._fetched(name)
        except OSError as problem:
            error = f"no process can be started: {problem.strerror or problem}"
        except Exception as problem:
            logger.exception("%s was not downloaded", name)
            error = f"unexpected {type(problem).__name__}"
        progress = self._progress[name]
        if error:
            logger.error("%s was not downloaded: %s", name, error)
            self._progress[name] = progress.model_copy(update={"state": "failed", "error": error})
        else:
            self._progress[name] = progress.model_copy(update={"state": "done"})

    async def _fetched(self, name: str) -> str:
        """Download a model in a child process. Returns the error, "" if there was none."""
        words = [sys.executable, "-m", "flickbook.hub.fetching", name]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=settings.inherited()
        )
        assert process.stdout is not None
        error = ""
        try:
            async for line in process.stdout:
                update = json.loads(line)
                error = update.pop("error", error)
                self._progress[name] = self._progress[name].model_copy(update=update)
            code = await process.wait()
        finally:
            await _ended(process)
        return error or (f"the download process ended with exit code {code}; try again" if code else "")


@asynccontextmanager
async def supplied(service: Service, pulls: Pulls) -> AsyncIterator[None]:
    """Download the models of queued jobs while the context is open, if the setting `pull` is auto.

    The models are found from the queue alone, so that a service that was killed resumes the downloads after its
    restart.
    """
    await asyncio.to_thread(service.artifacts.end_pull)
    if service.settings.pull != "auto":
        yield
        return
    task = asyncio.create_task(_supply(service, pulls))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _supply(service: Service, pulls: Pulls) -> None:
    while True:
        service.models_wanted.clear()
        try:
            for name in await _missing_models(service):
                await _supplied(service, pulls, name)
        except FlickbookError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("unexpected error while models are downloaded")
        with suppress(TimeoutError):
            await asyncio.wait_for(service.models_wanted.wait(), _PATIENCE)


async def _missing_models(service: Service) -> list[str]:
    """Return the models to download for queued jobs, in the order of the queue."""
    jobs = await service.store.find(Query(states=("queued",), order="queue", limit=_LOOKED_AT))
    names = dict.fromkeys(name for job in jobs if not job.model_dir for name in job.plan.models())
    return [name for name in names if await asyncio.to_thread(to_pull, name)]


async def _supplied(service: Service, pulls: Pulls, name: str) -> None:
    """Download a model, and fail the jobs that wait for it if that fails."""
    while not await pulls.wait(_TELL):
        service.artifacts.write_pull_progress(name, 0, None)  # another model comes first
    pulls.start(name)
    while True:
        over = await pulls.wait(_TELL)
        progress = pulls.of(name)
        assert progress is not None
        if over:
            break
        await asyncio.to_thread(service.artifacts.write_pull_progress, name, progress.bytes, progress.total)
    if progress.state == "failed" or await asyncio.to_thread(to_pull, name):
        await _failed(service, name, progress.error or "its repository is not a model in diffusers' layout")
    await asyncio.to_thread(service.artifacts.end_pull, name)


async def _failed(service: Service, name: str, reason: str) -> None:
    """Fail all queued jobs of a model that could not be downloaded."""
    error = f"{name} could not be downloaded: {reason}"
    while True:
        jobs = await service.store.find(Query(states=("queued",), limit=_LOOKED_AT))
        for job in jobs:
            if job.plan.model == name and not job.model_dir:
                await service.store.change(job.id, _QUEUED, queue.failed(job, error, code="hub"))
        if len(jobs) < _LOOKED_AT or not any(job.plan.model == name for job in jobs):
            return


async def _ended(process: Process) -> None:
    """Ask a process to exit by closing its stdin; kill it after a timeout."""
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
    found: Pulls = request.app.state.pulls
    return found


async def _now(pulls: Pulls, model: Model, caller: Caller) -> PullResponse:
    """Return the state of a model's download. Only admins see the error's text, which may contain directories."""
    progress = pulls.of(model.name)
    if progress is not None and progress.state == "pulling":
        return progress
    if await asyncio.to_thread(found, model):
        return (progress or PullResponse(state="done")).model_copy(update={"state": "done", "error": None})
    if progress is None or progress.state != "failed":
        return PullResponse(state="absent")
    if "admin" in caller.scopes:
        return progress
    return progress.model_copy(update={"error": "it could not be downloaded; see the service's log"})


@router.post(f"{ROOT}/models/{{name}}/pull", operation_id="pull_model", status_code=202, responses=refusals(404))
async def pull(name: str, request: Request, caller: Admin, idempotency: AdminKey) -> PullResponse:
    """Download a model. Continues a partial download; one model is downloaded at a time."""
    model, pulls = await asyncio.to_thread(catalogue.find, name), _pulls_of(request)
    fresh = idempotency is None or await idempotency.claim(service_of(request)) is None
    progress = await _now(pulls, model, caller)
    # A download that failed is not started again under its Idempotency-Key.
    if progress.state == "absent" or (progress.state == "failed" and fresh):
        try:
            if not model.repo:
                raise RequestError("model", model.name, "has no repository", "put its files back in their directory")
            pulls.start(model.name)
        except FlickbookError:
            if idempotency is not None:
                await idempotency.release(service_of(request))
            raise
        progress = await _now(pulls, model, caller)
    return progress


@router.get(f"{ROOT}/models/{{name}}/pull", operation_id="show_pull", responses=refusals(404))
async def show_pull(name: str, request: Request, caller: Reader) -> PullResponse:
    """Get the progress of a model's download."""
    model = await asyncio.to_thread(catalogue.find, name)
    return await _now(_pulls_of(request), model, caller)
