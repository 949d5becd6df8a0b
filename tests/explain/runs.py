"""A short run of the built-in model, recorded."""

from __future__ import annotations

from functools import cache
from typing import Any

from flickbook.engine.films import RunOptions
from flickbook.explain.record import Record, record
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

PROMPT = "a red circle moving left on a blue background"


def plan_of(**changes: Any) -> Plan:
    fields = {"prompt": PROMPT, "seed": 7, "num_frames": 4, "num_inference_steps": 3} | changes
    return resolve(Request.of(**fields))


@cache
def short() -> Record:
    """Four frames in three steps."""
    return record(plan_of(), RunOptions())
