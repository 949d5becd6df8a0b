"""What the tests of the queue share: a desk over an embedded store, and small jobs of the built-in model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered, sequenced
from flickbook.spec import Request
from flickbook.store.base import Job

Small = Callable[..., Job]
Moving = Callable[..., Job]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """An empty queue."""
    with Backend.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path / "jobs") as found:
        yield found


@pytest.fixture
def small() -> Small:
    """A job of a film of 4 frames in 3 steps; other fields by their names."""

    def make(seed: int = 7, **fields: object) -> Job:
        request = Request.of(
            prompt=fields.pop("prompt", "a red circle moving left on a blue background"),
            num_frames=fields.pop("num_frames", 4),
            num_inference_steps=fields.pop("num_inference_steps", 3),
            container=fields.pop("container", None),
            image=fields.pop("image", None),
            seed=seed,
        )
        return ordered(request, fields.pop("polish_options", None), **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def moving() -> Moving:
    """A job of a sequence of two prompts, 3 frames in 2 steps each; other fields by their names."""

    def make(seed: int = 7, frames_per: int = 3, num_inference_steps: int = 2, **fields: object) -> Job:
        request = Request.of(prompt="", num_inference_steps=num_inference_steps, seed=seed)
        prompts = ["a red circle on a blue background", "a yellow square on a green background"]
        return sequenced(prompts, request, frames_per=frames_per, **fields)  # type: ignore[arg-type]

    return make
