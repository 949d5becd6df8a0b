"""What the next job says is read while a film is denoised, and changes nothing of either."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.jobs.conftest import Small

from flickbook.engine import films as engines
from flickbook.engine.films import RunOptions, films
from flickbook.engine.unet.family import UNetFamily
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.prefetch import READER_THREAD, Reader
from flickbook.jobs.workers.worker import Worker

PROMPTS = ["a red circle moving left on a blue background", "a yellow star spinning on a black background"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The texts that the encoder reads -> the thread that it reads them in; nothing is kept on disk."""
    found: dict[str, str] = {}
    encoded = UNetFamily._encoded

    def recorded(family: UNetFamily, text: str) -> torch.Tensor:
        found[text] = threading.current_thread().name
        return encoded(family, text)

    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "0")
    monkeypatch.setattr(UNetFamily, "_encoded", recorded)
    engines.forget()
    yield found
    engines.forget()


@pytest.mark.slow
def test_the_next_prompt_is_encoded_ahead_and_films_are_unchanged(
    backend: Backend, small: Small, read: dict[str, str]
) -> None:
    jobs = [small(prompt=prompt, num_inference_steps=8) for prompt in PROMPTS]
    kept = backend.ask(backend.queue.submit(jobs))
    assert Worker(backend, "a worker", batch=1).work(2) == 2
    assert read[PROMPTS[0]] != READER_THREAD and read[PROMPTS[1]] == READER_THREAD
    engines.forget()
    for job in kept:
        done = backend.ask(backend.queue.job(job.id))
        assert done.result is not None and done.result.sidecar.recipe is not None, done.error
        (alone,) = films([job.plan], RunOptions())
        assert alone.recipe is not None
        assert done.result.sidecar.recipe.frames_sha256 == alone.recipe.frames_sha256


def test_prefetch_loads_no_model(backend: Backend, small: Small, read: dict[str, str]) -> None:
    backend.ask(backend.queue.submit([small()]))
    reader = Reader(backend)
    reader.look()
    reader.wait()
    assert not read and not engines._ENGINES


@pytest.mark.parametrize(
    ("changes", "ahead"),
    [({}, True), ({"thresholds": {"steady": 0.5}}, True), ({"kind": "sequence"}, False), ({"home": "command"}, False)],
)
def test_films_and_images_of_the_queue_are_prefetched(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], ahead: bool
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("flickbook.jobs.workers.prefetch.read_ahead", lambda plan, _: seen.append(plan.prompt))
    (job,) = backend.ask(backend.queue.submit([small().model_copy(update=changes)]))
    reader = Reader(backend)
    reader.look()
    reader.wait()
    assert seen == ([job.plan.prompt] if ahead else [])


def test_a_prefetch_error_is_left_to_the_run(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flickbook.jobs.workers.prefetch")

    def broken(*_: object) -> None:
        raise RuntimeError("no words")

    monkeypatch.setattr("flickbook.jobs.workers.prefetch.read_ahead", broken)
    backend.ask(backend.queue.submit([small()]))
    reader = Reader(backend)
    reader.look()
    reader.wait()
    assert "not encoded ahead: no words" in caplog.text
