"""A tool, a call of it, and its answer. Knows nothing about the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import BaseModel

from flickbook.jobs.api_keys import Scope
from flickbook.server.service import Caller, Service
from flickbook.server.submission.queue_position import Line
from flickbook.store.base import Job

#: Reports the progress of a call: the share that is done, 0 to 1, and a line of text.
Report = Callable[[float, str], Awaitable[None]]


class Access(Protocol):
    """Who makes one request, what it may do, and where it finds the films."""

    async def admit(self, scope: Scope) -> Caller:
        """Return the caller, who needs this scope. Raises HTTPException, LimitReached, RequestError."""

    async def afford(self) -> None:
        """Raise LimitReached if the caller has used up its quota of device time."""

    async def still_admits(self) -> bool:
        """Whether the caller may still read. A call that waits asks this again and again."""

    def film(self, job: Job) -> Path:
        """Return the path of a job's film. Raises JobNotFound, JobConflict."""

    def opened(self, field: str, text: str) -> IO[bytes]:
        """Return a file that a field names or contains. Raises RequestError."""

    async def address(self, caller: Caller, job: Job) -> str:
        """Return the URL of a completed film, "" if it has none."""


@dataclass(frozen=True)
class Parts:
    """What all calls share. `access` returns the Access of a request, which is None over stdio. `began` is called after
    each new job, `closing` is set when the server stops."""

    service: Service
    line: Line
    access: Callable[[Any], Access]
    closing: asyncio.Event
    began: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Call:
    """One call of a tool by an admitted caller."""

    parts: Parts
    access: Access
    caller: Caller
    report: Report

    @property
    def service(self) -> Service:
        """The service whose queue is used."""
        return self.parts.service

    async def job(self, id: str) -> Job:
        """Return a job that the caller may see. Raises JobNotFound."""
        return await self.service.queue.job(id, self.caller.sees)


@dataclass(frozen=True)
class Answer:
    """What a tool returns: a value, and pictures as PNG."""

    value: BaseModel
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Tool:
    """A tool: its name, the models of its fields and its answer, and the scope that it needs.

    The docstring of `run` is its description. `makes` is whether it creates jobs, which the protocol may follow as a
    task.
    """

    run: Callable[[Call, Any], Awaitable[Answer]]
    fields: type[BaseModel]
    answer: type[BaseModel]
    scope: Scope = "read"
    makes: bool = False
    repeatable: bool = False

    @property
    def name(self) -> str:
        """Its name in the protocol."""
        return self.run.__name__
