"""Requests that send a small dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIPS = Path(__file__).parents[3] / "examples" / "clips"
PATH = "/api/v1/tunes"
#: What trains the built-in model in a moment.
QUICK: dict[str, Any] = {"name": "zigzag", "iterations": 3, "batch": 1, "validation": 0, "num_frames": 5, "rank": 2}


def sent(count: int = 2, extra: dict[str, bytes] | None = None, **fields: Any) -> dict[str, Any]:
    """The options of a request with `count` clips and their captions, and `extra` files by name."""
    names = [f"{number:03}{suffix}" for number in range(count) for suffix in (".mp4", ".txt")]
    files = {name: (CLIPS / name).read_bytes() for name in names} | (extra or {})
    return {
        "data": {"request": json.dumps(QUICK | fields)},
        "files": [("files", (name, content)) for name, content in files.items()],
    }
