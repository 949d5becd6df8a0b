"""A live service with real worker processes behind it, and the `openai` client in front."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import openai
from PIL import Image
from tests.patience import PATIENCE
from tests.server.live import Live, live

#: What makes a film of the built-in model in a moment.
QUICK: dict[str, Any] = {"num_inference_steps": 2, "num_frames": 4}


def png() -> bytes:
    """A small picture."""
    file = BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    return file.getvalue()


@dataclass
class Working:
    """A service and two ways to ask it."""

    live: Live
    http: httpx2.Client
    sdk: openai.OpenAI

    def create(self, **fields: Any) -> dict[str, Any]:
        """A video that was asked for in JSON."""
        response = self.http.post("/v1/videos", json={"prompt": "a red circle moving left", **fields})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@contextmanager
def working(place: Path, workers: int = 1) -> Iterator[Working]:
    """A service on a store in `place`, for as long as the block lasts."""
    with (
        live(place, workers=workers) as service,
        working_processes(workers, place),
        httpx2.Client(base_url=service.url, timeout=PATIENCE) as http,
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="anything", max_retries=0, timeout=PATIENCE) as sdk,
    ):
        yield Working(service, http, sdk)


@contextmanager
def working_processes(count: int, place: Path) -> Iterator[None]:
    """Worker processes, which end when their standard input does."""
    store, files = f"sqlite:///{place / 'flickbook.db'}", str(place / "jobs")
    words = [sys.executable, "-m", "flickbook.jobs.workers.worker", "--store", store, "--jobs-dir", files]
    env = os.environ | {"XDG_DATA_HOME": str(place), "OMP_NUM_THREADS": "1", "FLICKBOOK_THREADS": "1"}
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, env=env) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            process.wait(60)
