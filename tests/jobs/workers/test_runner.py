"""Claimed jobs are run, settled and laid down; what is resumed is the film it would have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.jobs.conftest import Small

from flickbook.engine.films import films
from flickbook.errors import RequestError
from flickbook.files import sha256
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.runner import Runner
from flickbook.media.read import read_any
from flickbook.spec import Recipe, Step
from flickbook.store.base import Job

LEASE = 30.0


def claimed(backend: Backend, *jobs: Job) -> list[Job]:
    kept = backend.ask(backend.queue.submit(jobs))
    found = [backend.ask(backend.store.claim("a worker", LEASE, id=job.id)) for job in kept]
    assert all(job is not None for job in found)
    return [job for job in found if job is not None]


def recipe_of(job: Job) -> Recipe:
    assert job.result is not None and job.result.sidecar.recipe is not None, job.error
    return job.result.sidecar.recipe


def frames_of(job: Job) -> str:
    """The hash of a job's film, were it made without a queue."""
    recipe = next(films([job.plan])).recipe
    assert recipe is not None
    return recipe.frames_sha256


def at(steps: int, do: Callable[[], object]) -> Callable[[Step], None]:
    """Something that is done once so many denoising steps are."""

    def on_step(step: Step) -> None:
        if step.phase == "denoise" and step.index == steps:
            do()

    return on_step


def test_a_film_is_made_stored_and_reported(backend: Backend, small: Small) -> None:
    (job,) = claimed(backend, small())
    steps: list[Step] = []
    (done,) = Runner(backend).run([job], on_step=steps.append)
    assert done.state == "completed" and done.result is not None and done.seconds > 0
    path = Path(done.result.path)
    assert path.parent == backend.artifacts.of(job.id) and path.name == "film-1.mp4"
    assert (done.result.bytes, done.result.sha256) == (path.stat().st_size, sha256(path))
    assert recipe_of(done).frames_sha256 == frames_of(job)
    assert {step.phase for step in steps} >= {"encode", "denoise", "decode", "write"}
    assert backend.artifacts.progress(job.id)["attempt"] == 1
    assert not backend.artifacts.checkpoint(job.id).exists()
    assert backend.ask(backend.queue.job(job.id)) == done


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_resumed_film_has_the_same_bytes(backend: Backend, small: Small, steps: int) -> None:
    (job,) = claimed(backend, small(num_inference_steps=6))
    runner = Runner(backend, look=0.01)
    (released,) = runner.run([job], on_step=at(steps, runner.leave))
    assert released.state == "queued" and released.stalls == 0 and released.result is None
    assert backend.artifacts.checkpoint(job.id).exists()
    (again,) = [backend.ask(backend.store.claim("another", LEASE))]
    assert again is not None
    (done,) = Runner(backend).run([again])
    assert recipe_of(done).frames_sha256 == frames_of(job)
    assert done.result is not None and done.result.sidecar.run is not None
    assert any(note.startswith(f"resumed from step {min(steps + 1, 6)} of 6") for note in done.result.sidecar.run.notes)


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_running_film_stops_on_request(backend: Backend, small: Small, wish: str, state: str) -> None:
    (job,) = claimed(backend, small(num_inference_steps=50))
    runner = Runner(backend, look=0.01)
    seen: list[int] = []

    def on_step(step: Step) -> None:
        seen.append(step.index)
        if step.phase == "denoise" and step.index == 3:
            backend.ask(getattr(backend.queue, wish)(job.id))

    (done,) = runner.run([job], on_step=on_step)
    assert done.state == state and max(seen) < 50
    assert not list(backend.artifacts.of(job.id).glob("film-*"))


def test_a_failing_job_stores_its_error(backend: Backend, small: Small, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    next(films([small(num_frames=1).plan])).save(picture)
    job = small()
    request = job.request.model_copy(update={"image": str(picture)})
    (job,) = claimed(
        backend,
        job.model_copy(
            update={"request": request, "plan": job.plan.model_copy(update={"image": "0" * 64, "strength": 1.0})}
        ),
    )
    (done,) = Runner(backend).run([job])
    assert (done.state, done.error_code) == ("failed", "media") and "was changed" in done.error
    assert "Traceback" in backend.artifacts.read_log(job.id)


def test_a_strict_run_raises_the_error_of_its_film(backend: Backend, small: Small, tmp_path: Path) -> None:
    (job,) = claimed(backend, small(home="command", output=str(tmp_path / "x.mp4")))
    (tmp_path / "x.mp4").write_text("mine")
    with pytest.raises(Exception, match="exists already"):
        Runner(backend).run([job], strict=True)
    assert backend.ask(backend.queue.job(job.id)).state == "failed"
    assert (tmp_path / "x.mp4").read_text() == "mine"


def test_the_result_of_a_lost_lease_is_discarded(backend: Backend, small: Small) -> None:
    (job,) = claimed(backend, small())

    def lose() -> None:
        backend.ask(backend.queue.release_jobs_of("a worker", "it was thought dead"))
        assert backend.ask(backend.store.claim("another", LEASE)) is not None

    assert Runner(backend, look=0.01).run([job], on_step=at(2, lose)) == []
    found = backend.ask(backend.queue.job(job.id))
    assert (found.state, found.attempt, found.result) == ("running", 2, None)
    assert not (backend.artifacts.of(job.id) / "film-1.mp4").exists()


def test_a_lease_lost_while_writing_leaves_the_checkpoint(backend: Backend, small: Small) -> None:
    """The lease ends while the film is written: whoever has the job now need not denoise it again."""
    (job,) = claimed(backend, small())

    def lose(step: Step) -> None:
        if step.phase == "write":
            backend.ask(backend.queue.release_jobs_of("a worker", "it was thought dead"))

    assert Runner(backend, look=60.0).run([job], on_step=lose) == []
    assert backend.artifacts.checkpoint(job.id).exists() and not list(backend.artifacts.of(job.id).glob("film-*"))
    steps: list[Step] = []
    again = backend.ask(backend.store.claim("another", LEASE))
    assert again is not None
    (done,) = Runner(backend).run([again], on_step=steps.append)
    assert done.state == "completed" and sum(step.phase == "denoise" for step in steps) == 1


def test_a_command_killed_after_writing_its_film_can_be_resumed(backend: Backend, small: Small, tmp_path: Path) -> None:
    output = tmp_path / "x.mp4"
    (job,) = claimed(backend, small(home="command", output=str(output)))
    next(films([job.plan])).save(output)  # what the killed attempt had written
    backend.ask(backend.queue.release_jobs_of("a worker", "its command is gone"))
    again = backend.ask(backend.store.claim("a worker", LEASE, id=job.id))
    assert again is not None and again.attempt == 2
    (done,) = Runner(backend).run([again], strict=True)
    assert done.state == "completed" and done.result is not None and done.result.sha256 == sha256(output)


def test_a_failing_preview_does_not_fail_the_film(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("flickbook.jobs.workers.progress.moving", broken)
    monkeypatch.setattr("flickbook.jobs.workers.progress._FIRST", 0.0)
    (job,) = claimed(backend, small())
    (done,) = Runner(backend).run([job])
    assert done.state == "completed" and "no more previews" in backend.artifacts.read_log(job.id)


@pytest.mark.slow
def test_a_draft_has_a_preview_and_is_finished_to_the_same_film(backend: Backend, small: Small) -> None:
    (draft,) = claimed(backend, small(kind="draft", until=0.5, num_inference_steps=6))
    (done,) = Runner(backend).run([draft])
    assert done.state == "completed" and done.result is not None
    frames, fps = read_any(done.result.path)
    assert frames.shape[0] == draft.plan.num_frames and fps == draft.plan.fps
    steps: list[Step] = []
    (job,) = claimed(backend, small(parent=draft.id, num_inference_steps=6))
    (film,) = Runner(backend).run([job], on_step=steps.append)
    assert recipe_of(film).frames_sha256 == frames_of(job)
    assert [step.index for step in steps if step.phase == "denoise"] == [3, 4, 5, 6]
    assert backend.artifacts.checkpoint(draft.id).exists()  # it can be finished again


@pytest.mark.slow
def test_jobs_of_one_run_resume_together(backend: Backend, small: Small) -> None:
    jobs = claimed(backend, *(small(seed, num_inference_steps=4, leader="job_" + "0" * 26) for seed in (1, 2)))
    runner = Runner(backend)
    released = runner.run(jobs, on_step=at(2, runner.leave))
    assert [job.state for job in released] == ["queued", "queued"]
    again = [backend.ask(backend.store.claim("w", LEASE, id=job.id)) for job in jobs]
    done = Runner(backend).run([job for job in again if job is not None])
    whole = Runner(backend).run(claimed(backend, *(small(seed, num_inference_steps=4) for seed in (1, 2))))
    assert [recipe_of(one) for one in done] == [recipe_of(one) for one in whole]
    assert recipe_of(done[0]).placement.batch == 2


@pytest.mark.slow
def test_an_extension_is_appended_to_its_parent(backend: Backend, small: Small) -> None:
    (first,) = Runner(backend).run(claimed(backend, small(1)))
    (longer,) = Runner(backend).run(claimed(backend, small(2, kind="extension", parent=first.id)))
    assert first.result is not None and longer.result is not None, longer.error
    frames, _ = read_any(longer.result.path)
    before, _ = read_any(first.result.path)
    assert len(frames) == 8
    assert np.abs(frames[:4].astype(int) - before).mean() < 8
    assert sorted(path.name for path in backend.artifacts.of(longer.id).glob("film-*")) == [
        "film-1.mp4",
        "film-1.mp4.json",
        "film-1.safetensors",
    ]


def test_a_low_score_is_retried_with_another_seed(backend: Backend, small: Small) -> None:
    (job,) = claimed(backend, small(thresholds={"sharp": 1.0}, retries=1))
    (done,) = Runner(backend).run([job])
    assert done.result is not None and done.result.sidecar.run is not None
    assert sum("sharp" in note for note in done.result.sidecar.run.notes) == 2


def test_errors_of_log_and_preview_do_not_fail_the_film(backend: Backend, small: Small) -> None:
    (job,) = claimed(backend, small())
    (backend.artifacts.made(job.id) / "log.txt").mkdir()
    (backend.artifacts.made(job.id) / "preview.webp").mkdir()
    (done,) = Runner(backend).run([job])
    assert done.state == "completed"


def test_an_invalid_job_is_refused_at_creation(small: Small) -> None:
    with pytest.raises(RequestError, match="a draft needs 2 frames or more"):
        small(kind="draft", num_frames=1)
    with pytest.raises(RequestError, match="num_frames=999"):
        small(num_frames=999)
