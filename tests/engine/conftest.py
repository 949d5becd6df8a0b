"""The built-in model, warm, and Plans of short films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flickbook.catalogue import find
from flickbook.engine.engine import Engine
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Request

PROMPT = "a red circle moving left on a blue background"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hashes of copies made for a test must not stay in the person's cache."""
    monkeypatch.setenv("FLICKBOOK_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """`plan(**changes)`: three steps, four frames, seed 7 unless changed."""

    def make(**changes: Any) -> Plan:
        fields = {"prompt": PROMPT, "num_frames": 4, "num_inference_steps": 3, "seed": 7}
        return resolve(Request.of(**{**fields, **changes}))

    return make


@pytest.fixture(scope="session")
def engine() -> Engine:
    """One engine for all tests: three frames are decoded at once, so that four take two pieces."""
    return Engine(find("builtin"), Placement(decode_frames=3))
