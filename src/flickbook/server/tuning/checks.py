"""The check of a dataset: a process of its own loads the model, so the service keeps neither the model nor torch."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from fastapi import HTTPException

from flickbook.errors import LimitReached, RequestError
from flickbook.learn.tuning.config import TuneConfig
from flickbook.server.service import Service
from flickbook.settings import inherited
from flickbook.spec import Plan

#: Seconds that a check may take, and that a caller waits for the check of another.
_LONGEST: Final = 600.0
_WAIT: Final = 60.0


async def checked(
    service: Service, directory: Path, plan: Plan, config: TuneConfig, prior_prompts: str
) -> dict[str, Any]:
    """Return the report of `learn.tuning.check` on an uploaded dataset. One check runs at a time.

    Raises the RequestError of the check, with the field "dir" for the dataset, LimitReached while others wait, and
    HTTPException 503 if the process fails.
    """
    asked = {
        "directory": str(directory),
        "output": str(directory.with_name("lora")),
        "plan": plan.model_dump(mode="json"),
        "config": vars(config),
        "prior_prompts": prior_prompts,
    }
    try:
        await asyncio.wait_for(service.checking.acquire(), _WAIT)
    except TimeoutError:
        raise LimitReached("files", "", "another dataset is being checked", "try again later", 5.0) from None
    try:
        answer = await _asked(json.dumps(asked).encode())
    finally:
        service.checking.release()
    if (refused := answer.get("refused")) is not None:
        raise RequestError(refused["field"], refused["value"], refused["limit"], refused["remedy"])
    return answer


async def _asked(question: bytes) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flickbook.learn.tuning.check"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=inherited(),
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(question), _LONGEST)
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        raise HTTPException(
            503, "the check did not finish; use fewer clips or another model, and see the log"
        ) from None
    return found
