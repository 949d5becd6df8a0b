"""Jobs that a command runs itself: which interrupted one it continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flickbook.cli.films.tracking import interrupted
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import tuning
from flickbook.resolution import resolve
from flickbook.spec import Request
from flickbook.store.base import Job


def training(output: Path, **changes: Any) -> Job:
    request = Request.of(prompt="a red circle", num_frames=2, seed=1)
    how = {"clips": "/clips", "output": str(output), "config": {"rank": 4}, **changes}
    return tuning(resolve(request), request, how, output=output)


def test_only_a_training_with_the_same_settings_is_continued(tmp_path: Path) -> None:
    with Backend.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs") as backend:
        (job,) = backend.ask(backend.queue.submit([training(tmp_path / "lora")]))
        claimed = backend.ask(backend.store.claim("a command", 30.0, id=job.id))
        assert claimed is not None
        backend.ask(backend.queue.release(claimed))
        found = interrupted(backend, training(tmp_path / "lora"))
        assert found is not None and found.id == job.id
        assert interrupted(backend, training(tmp_path / "lora", config={"rank": 8})) is None
        assert interrupted(backend, training(tmp_path / "lora", clips="/other")) is None
