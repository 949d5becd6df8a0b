"""The report of `flickbook tune --check`: the dataset, memory and hours. The service runs it in a process of its own.

As a program it reads one JSON object from its standard input and prints the report as JSON: the model is loaded and
freed apart from the process that asks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flickbook.errors import FlickbookError, RequestError
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.data.summary import summary
from flickbook.learn.tuning.tune import Training, prepare
from flickbook.spec import Plan

#: Seconds: a longer update is not measured.
_SHORT = 5.0


def check(training: Training, on_file: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Return the keys of `summary`, and memory_bytes (needed), free_bytes, examples_bytes and hours; trains nothing.

    `examples_bytes` are those of latents and embeddings in the host's memory. `hours` are those of the updates: an
    update is measured if it is short, and else estimated.

    Raises the errors of `prepare`, and MediaError for a file of prior prompts that cannot be read.
    """
    prepared = prepare(training, on_file)
    found = summary(prepared.dataset, prepared.groups, training.plan.fps)
    cost = prepared.cost(measure_below=_SHORT)
    return found | {
        "memory_bytes": cost.memory_bytes,
        "free_bytes": cost.free_bytes,
        "examples_bytes": cost.examples_bytes,
        "hours": cost.seconds / 3600,
    }


def main() -> None:
    """Check what standard input describes: directory, output, plan, config and the file prior_prompts, or "". A refusal
    is printed as `refused`."""
    asked = json.load(sys.stdin)
    try:
        training = Training(
            Path(asked["directory"]),
            Path(asked["output"]),
            Plan.from_json(json.dumps(asked["plan"])),
            prior_prompts=Path(asked["prior_prompts"]) if asked["prior_prompts"] else None,
            config=TuneConfig(**asked["config"]),
            uploaded=True,
        )
        answer = check(training)
    except RequestError as error:
        about = {"field": error.field, "value": str(error.value), "limit": error.limit, "remedy": error.remedy}
        answer = {"refused": about}
    except FlickbookError as error:
        # Without the error's path, which is private.
        reason, remedy = getattr(error, "reason", str(error)), getattr(error, "remedy", "")
        answer = {"refused": {"field": "model", "value": asked["plan"]["model"], "limit": reason, "remedy": remedy}}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
