"""Jobs to put into stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.blocking import Blocking

from flickbook.spec import Plan, Request
from flickbook.store.base import Job, Store, new_id

#: Makes another face of the same store, not yet open: what a second process would have.
Another = Callable[[], Store]
#: Makes an empty store in a directory, for as long as it is entered.
Backend = Callable[[Path], AbstractContextManager[Another]]

PLAN = Plan(
    task="film",
    model="builtin",
    revision="",
    prompt="a red circle",
    negative_prompt="",
    width=64,
    height=64,
    num_frames=8,
    fps=8.0,
    num_inference_steps=4,
    guidance_scale=3.0,
    seed=7,
    scheduler="native",
    container="mp4",
)


def job(**fields: Any) -> Job:
    """A job with an id of its own."""
    return Job.of(**{"id": new_id("job"), "plan": PLAN, "request": Request(prompt="a red circle"), **fields})


def ids(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def drained(store: Blocking) -> list[str]:
    """The ids in the order in which the queue is claimed."""
    found = []
    while (each := store.claim("one", 60.0)) is not None:
        found.append(each.id)
    return found


class Hasty(sqlite3.Connection):
    """A connection that does not wait for the disk, where a test is about processes and the disk is busy."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), *parameters)


def hasty(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
    return sqlite3.connect(*arguments, factory=Hasty, **keywords)
