"""Sequences as jobs: whatever stops one, it goes on to the film that it would have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.conftest import Moving

from flickbook.engine.sequences.sequence import made
from flickbook.files import sha256
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.runner import Runner
from flickbook.media.read import read_any
from flickbook.spec import Recipe, Step
from flickbook.store.base import Job


def claimed(backend: Backend, job: Job) -> Job:
    (kept,) = backend.ask(backend.queue.submit([job]))
    return again(backend, kept.id)


def again(backend: Backend, id: str) -> Job:
    found = backend.ask(backend.store.claim("a worker", 30.0, id=id))
    assert found is not None
    return found


def recipe_of(job: Job) -> Recipe:
    assert job.result is not None and job.result.sidecar.recipe is not None, job.error
    return job.result.sidecar.recipe


def frames_of(job: Job) -> str:
    """The hash of a job's film, were it made without a queue and in one go."""
    recipe = made(job.plan).recipe
    assert recipe is not None
    return recipe.frames_sha256


def at(pictures: int, do: Callable[[], object]) -> Callable[[Step], None]:
    """Something that is done once there are so many pictures."""

    def on_step(step: Step) -> None:
        if step.phase == "denoise" and step.index == pictures:
            do()

    return on_step


def pictures(backend: Backend, job: Job) -> list[str]:
    return sorted(path.name for path in backend.artifacts.pictures(job.id).glob("*.png"))


@pytest.mark.slow
def test_a_sequence_is_made_stored_and_reported(backend: Backend, moving: Moving) -> None:
    job = claimed(backend, moving())
    steps: list[Step] = []
    (done,) = Runner(backend).run([job], on_step=steps.append)
    assert done.state == "completed" and done.result is not None, done.error
    path = Path(done.result.path)
    assert path == backend.artifacts.film(job.id, 1, ".mp4") and done.result.sha256 == sha256(path)
    assert recipe_of(done).plan == job.plan and recipe_of(done).frames_sha256 == frames_of(job)
    assert done.result.sidecar.run is not None and "coherence" in done.result.sidecar.run.scores
    assert [step.index for step in steps if step.phase == "denoise"] == [1, 2, 3, 4, 5, 6]
    assert not backend.artifacts.pictures(job.id).exists()
    assert path.with_name("film-1.mp4.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"feedback": 0.8}])
def test_a_resumed_sequence_is_the_same_film(backend: Backend, moving: Moving, more: dict[str, Any]) -> None:
    job = claimed(backend, moving(frames_per=5, **more))
    pause = at(3, lambda: backend.ask(backend.queue.pause(job.id)))
    (released,) = Runner(backend, look=0.01).run([job], on_step=pause)
    assert released.state == "paused" and released.result is None
    there = pictures(backend, job)
    assert "00002.png" in there and "00009.png" not in there
    assert backend.ask(backend.queue.resume(job.id)).state == "queued"
    steps: list[Step] = []
    (done,) = Runner(backend).run([again(backend, job.id)], on_step=steps.append)
    assert recipe_of(done).frames_sha256 == frames_of(job)
    # What was there is not told of again, and took no time.
    denoised = [step for step in steps if step.phase == "denoise"]
    assert denoised[0].index >= 3 and denoised[0].seconds == 0 and denoised[-1].index == 10
    assert done.result is not None and done.result.path.endswith("film-2.mp4")
    assert not backend.artifacts.pictures(job.id).exists()


@pytest.mark.slow
def test_a_cancelled_sequence_is_retried_from_its_frames(backend: Backend, moving: Moving) -> None:
    job = claimed(backend, moving(frames_per=5))
    (cancelled,) = Runner(backend, look=0.01).run(
        [job], on_step=at(2, lambda: backend.ask(backend.queue.cancel(job.id)))
    )
    assert cancelled.state == "cancelled" and not list(backend.artifacts.of(job.id).glob("film-*"))
    backend.ask(backend.queue.retry(job.id))
    (done,) = Runner(backend).run([again(backend, job.id)])
    assert recipe_of(done).frames_sha256 == frames_of(job)
    assert done.result is not None and done.result.sidecar.run is not None
    assert any("existed already" in note for note in done.result.sidecar.run.notes)


@pytest.mark.slow
def test_a_lost_lease_leaves_the_frames_for_the_next_attempt(backend: Backend, moving: Moving) -> None:
    job = claimed(backend, moving())

    def lose(step: Step) -> None:
        if step.phase == "write":
            backend.ask(backend.queue.release_jobs_of("a worker", "it was thought dead"))

    assert Runner(backend, look=60.0).run([job], on_step=lose) == []
    assert len(pictures(backend, job)) == 6 and not list(backend.artifacts.of(job.id).glob("film-*"))
    (done,) = Runner(backend).run([again(backend, job.id)])
    assert done.state == "completed" and done.attempt == 2


@pytest.mark.slow
def test_damaged_and_foreign_frames_are_made_again(backend: Backend, moving: Moving) -> None:
    job, other = claimed(backend, moving()), moving(seed=8)
    made(other.plan, directory=backend.artifacts.pictures(job.id))
    runner = Runner(backend)
    (released,) = runner.run([job], on_step=at(4, runner.leave))
    assert released.state == "queued"
    (backend.artifacts.pictures(job.id) / "00001.png").write_bytes(b"torn")
    (done,) = Runner(backend).run([again(backend, job.id)])
    assert recipe_of(done).frames_sha256 == frames_of(job)


@pytest.mark.slow
def test_a_running_sequence_has_a_preview(backend: Backend, moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flickbook.jobs.workers.progress._FIRST", 0.0)
    job = claimed(backend, moving(frames_per=8))
    assert Runner(backend).run([job])[0].state == "completed"
    preview = backend.artifacts.of(job.id) / "preview.webp"
    frames, _ = read_any(preview)
    assert frames.shape[1:] == (128, 128, 3)
