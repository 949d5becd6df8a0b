"""A film is written while the next one is made, and its job is done only when its file is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.jobs.conftest import Small
from tests.patience import PATIENCE, until

from flickbook.engine.films import films
from flickbook.errors import OutputError
from flickbook.files import sha256
from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers import runner
from flickbook.jobs.workers.output import BackgroundWriter
from flickbook.jobs.workers.worker import Worker
from flickbook.store.base import Job, Result


def now(backend: Backend, job: Job) -> Job:
    return backend.ask(backend.queue.job(job.id))


@pytest.fixture
def held(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Job], object]], None]:
    """Has something happen in the scribe's thread before a film is written."""
    true = runner.filed

    def hold(before: Callable[[Job], object]) -> None:
        def filed(backend: Backend, job: Job, *words: object) -> Result:
            before(job)
            return true(backend, job, *words)  # type: ignore[arg-type]

        monkeypatch.setattr(runner, "filed", filed)

    return hold


Held = Callable[[Callable[[Job], object]], None]


@pytest.mark.slow
def test_a_film_is_written_while_the_next_is_denoised(backend: Backend, small: Small, held: Held) -> None:
    first, second = backend.ask(backend.queue.submit([small(1), small(2, num_inference_steps=20)]))
    seen: list[tuple[str, str, bool]] = []

    def wait(job: Job) -> None:
        if job.id == first.id:
            until(lambda: backend.artifacts.progress(second.id).get("phase") == "denoise")
            states = now(backend, first).state, str(backend.artifacts.progress(second.id).get("phase"))
            seen.append((*states, backend.artifacts.checkpoint(first.id).exists()))

    held(wait)
    assert Worker(backend).work(2) == 2
    # Until its file is whole a job runs under its lease, with the state that it could be gone on from.
    assert seen == [("running", "denoise", True)]
    for job in (first, second):
        done = now(backend, job)
        assert done.state == "completed" and done.result is not None and done.result.sidecar.recipe is not None
        assert done.result.sha256 == sha256(Path(done.result.path))
        recipe = next(films([job.plan])).recipe
        assert recipe is not None and done.result.sidecar.recipe.frames_sha256 == recipe.frames_sha256
        assert not backend.artifacts.checkpoint(job.id).exists()


@pytest.mark.slow
def test_a_film_that_cannot_be_written_fails_alone_with_its_error(backend: Backend, small: Small, held: Held) -> None:
    first, second = backend.ask(backend.queue.submit([small(1), small(2, num_inference_steps=4)]))

    def fail(job: Job) -> None:
        if job.id == first.id:
            raise OutputError(Path("x.mp4"), "the disk is full", "free some space")

    held(fail)
    Worker(backend).work(2)
    assert [now(backend, job).state for job in (first, second)] == ["failed", "completed"]
    assert "the disk is full" in now(backend, first).error and "the disk is full" in backend.artifacts.read_log(
        first.id
    )
    assert "the disk is full" not in backend.artifacts.read_log(second.id)


@pytest.mark.slow
def test_a_worker_killed_while_writing_loses_no_film(backend: Backend, small: Small, held: Held) -> None:
    first, second = backend.ask(backend.queue.submit([small(1), small(2, num_inference_steps=4)]))
    once: list[str] = []

    def die(job: Job) -> None:
        if not once:
            once.append(job.id)
            backend.ask(backend.store.settle(job.id, job.attempt, queue.orphaned(now(backend, job), "it was killed")))

    held(die)
    assert Worker(backend, "w", look=0.01).work(3) == 3
    found = [now(backend, job) for job in (first, second)]
    assert [job.state for job in found] == ["completed", "completed"] and found[0].attempt == 2
    assert sorted(path.name for path in backend.artifacts.of(first.id).glob("film-*")) == [
        "film-2.mp4",
        "film-2.mp4.json",
        "film-2.safetensors",
    ]
    assert found[0].result is not None and found[0].result.sidecar.run is not None
    assert any("resumed from step 3 of 3" in note for note in found[0].result.sidecar.run.notes)


def test_at_most_one_film_waits_to_be_written() -> None:
    writer, go, done = BackgroundWriter(), threading.Event(), list[int]()
    writer.hand(lambda: (go.wait(PATIENCE), done.append(1))[1])
    third = threading.Thread(target=lambda: [writer.hand(lambda: done.append(2)), done.append(0)])
    third.start()
    third.join(0.2)
    assert third.is_alive() and done == []
    go.set()
    third.join(PATIENCE)
    writer.after(lambda: done.append(3))
    writer.wait()
    assert sorted(done) == [0, 1, 2, 3] and done[0] == 1 and done[-1] == 3
