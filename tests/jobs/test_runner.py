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
from flickbook.jobs.desk import Desk
from flickbook.jobs.runner import Runner
from flickbook.media.read import read_any
from flickbook.spec import Recipe, Step
from flickbook.store.base import Job

LEASE = 30.0


def claimed(desk: Desk, *jobs: Job) -> list[Job]:
    kept = desk.ask(desk.queue.submit(jobs))
    found = [desk.ask(desk.store.claim("a worker", LEASE, id=job.id)) for job in kept]
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


def test_a_film_is_made_kept_and_told(desk: Desk, small: Small) -> None:
    (job,) = claimed(desk, small())
    steps: list[Step] = []
    (done,) = Runner(desk).run([job], on_step=steps.append)
    assert done.state == "completed" and done.result is not None and done.seconds > 0
    path = Path(done.result.path)
    assert path.parent == desk.shelf.of(job.id) and path.name == "film-1.mp4"
    assert (done.result.bytes, done.result.sha256) == (path.stat().st_size, sha256(path))
    assert recipe_of(done).frames_sha256 == frames_of(job)
    assert {step.phase for step in steps} >= {"encode", "denoise", "decode", "write"}
    assert desk.shelf.progress(job.id)["attempt"] == 1
    assert not desk.shelf.checkpoint(job.id).exists()
    assert desk.ask(desk.queue.job(job.id)) == done


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_paused_film_goes_on_to_the_same_bytes(desk: Desk, small: Small, steps: int) -> None:
    (job,) = claimed(desk, small(num_inference_steps=6))
    runner = Runner(desk, look=0.01)
    (laid,) = runner.run([job], on_step=at(steps, runner.leave))
    assert laid.state == "queued" and laid.stalls == 0 and laid.result is None
    assert desk.shelf.checkpoint(job.id).exists()
    (again,) = [desk.ask(desk.store.claim("another", LEASE))]
    assert again is not None
    (done,) = Runner(desk).run([again])
    assert recipe_of(done).frames_sha256 == frames_of(job)
    assert done.result is not None and done.result.sidecar.run is not None
    assert any(note.startswith(f"went on from step {min(steps + 1, 6)} of 6") for note in done.result.sidecar.run.notes)


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_running_film_stops_when_it_is_asked_to(desk: Desk, small: Small, wish: str, state: str) -> None:
    (job,) = claimed(desk, small(num_inference_steps=50))
    runner = Runner(desk, look=0.01)
    seen: list[int] = []

    def on_step(step: Step) -> None:
        seen.append(step.index)
        if step.phase == "denoise" and step.index == 3:
            desk.ask(getattr(desk.queue, wish)(job.id))

    (done,) = runner.run([job], on_step=on_step)
    assert done.state == state and max(seen) < 50
    assert not list(desk.shelf.of(job.id).glob("film-*"))


def test_what_cannot_be_made_fails_with_its_reason(desk: Desk, small: Small, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    next(films([small(num_frames=1).plan])).save(picture)
    job = small()
    request = job.request.model_copy(update={"image": str(picture)})
    (job,) = claimed(
        desk,
        job.model_copy(
            update={"request": request, "plan": job.plan.model_copy(update={"image": "0" * 64, "strength": 1.0})}
        ),
    )
    (done,) = Runner(desk).run([job])
    assert (done.state, done.error_code) == ("failed", "media") and "was changed" in done.error
    assert "Traceback" in desk.shelf.read_log(job.id)


def test_a_command_learns_why_its_film_failed(desk: Desk, small: Small, tmp_path: Path) -> None:
    (job,) = claimed(desk, small(home="command", output=str(tmp_path / "x.mp4")))
    (tmp_path / "x.mp4").write_text("mine")
    with pytest.raises(Exception, match="exists already"):
        Runner(desk).run([job], strict=True)
    assert desk.ask(desk.queue.job(job.id)).state == "failed"
    assert (tmp_path / "x.mp4").read_text() == "mine"


def test_what_was_made_under_a_lost_lease_counts_no_more(desk: Desk, small: Small) -> None:
    (job,) = claimed(desk, small())

    def lose() -> None:
        desk.ask(desk.queue.bury("a worker", "it was thought dead"))
        assert desk.ask(desk.store.claim("another", LEASE)) is not None

    assert Runner(desk, look=0.01).run([job], on_step=at(2, lose)) == []
    found = desk.ask(desk.queue.job(job.id))
    assert (found.state, found.attempt, found.result) == ("running", 2, None)
    assert not (desk.shelf.of(job.id) / "film-1.mp4").exists()


def test_a_film_that_counts_no_more_at_its_end_leaves_its_state(desk: Desk, small: Small) -> None:
    """The lease ends while the film is written: whoever has the job now need not denoise it again."""
    (job,) = claimed(desk, small())

    def lose(step: Step) -> None:
        if step.phase == "write":
            desk.ask(desk.queue.bury("a worker", "it was thought dead"))

    assert Runner(desk, look=60.0).run([job], on_step=lose) == []
    assert desk.shelf.checkpoint(job.id).exists() and not list(desk.shelf.of(job.id).glob("film-*"))
    steps: list[Step] = []
    again = desk.ask(desk.store.claim("another", LEASE))
    assert again is not None
    (done,) = Runner(desk).run([again], on_step=steps.append)
    assert done.state == "completed" and sum(step.phase == "denoise" for step in steps) == 1


def test_a_command_killed_between_its_film_and_its_word_goes_on(desk: Desk, small: Small, tmp_path: Path) -> None:
    output = tmp_path / "x.mp4"
    (job,) = claimed(desk, small(home="command", output=str(output)))
    next(films([job.plan])).save(output)  # what the killed attempt had written
    desk.ask(desk.queue.bury("a worker", "its command is gone"))
    again = desk.ask(desk.store.claim("a worker", LEASE, id=job.id))
    assert again is not None and again.attempt == 2
    (done,) = Runner(desk).run([again], strict=True)
    assert done.state == "completed" and done.result is not None and done.result.sha256 == sha256(output)


def test_a_preview_that_cannot_be_made_costs_no_film(desk: Desk, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("flickbook.jobs.watch.moving", broken)
    monkeypatch.setattr("flickbook.jobs.watch._FIRST", 0.0)
    (job,) = claimed(desk, small())
    (done,) = Runner(desk).run([job])
    assert done.state == "completed" and "no more previews" in desk.shelf.read_log(job.id)


def test_a_draft_is_seen_and_its_film_is_no_other(desk: Desk, small: Small) -> None:
    (draft,) = claimed(desk, small(kind="draft", until=0.5, num_inference_steps=6))
    (done,) = Runner(desk).run([draft])
    assert done.state == "completed" and done.result is not None
    frames, fps = read_any(done.result.path)
    assert frames.shape[0] == draft.plan.num_frames and fps == draft.plan.fps
    steps: list[Step] = []
    (job,) = claimed(desk, small(parent=draft.id, num_inference_steps=6))
    (film,) = Runner(desk).run([job], on_step=steps.append)
    assert recipe_of(film).frames_sha256 == frames_of(job)
    assert [step.index for step in steps if step.phase == "denoise"] == [3, 4, 5, 6]
    assert desk.shelf.checkpoint(draft.id).exists()  # it can be finished again


def test_two_that_run_together_go_on_together(desk: Desk, small: Small) -> None:
    jobs = claimed(desk, *(small(seed, num_inference_steps=4, leader="job_" + "0" * 26) for seed in (1, 2)))
    runner = Runner(desk)
    laid = runner.run(jobs, on_step=at(2, runner.leave))
    assert [job.state for job in laid] == ["queued", "queued"]
    again = [desk.ask(desk.store.claim("w", LEASE, id=job.id)) for job in jobs]
    done = Runner(desk).run([job for job in again if job is not None])
    whole = Runner(desk).run(claimed(desk, *(small(seed, num_inference_steps=4) for seed in (1, 2))))
    assert [recipe_of(one) for one in done] == [recipe_of(one) for one in whole]
    assert recipe_of(done[0]).placement.batch == 2


def test_an_extension_is_joined_behind_its_parent(desk: Desk, small: Small) -> None:
    (first,) = Runner(desk).run(claimed(desk, small(1)))
    (longer,) = Runner(desk).run(claimed(desk, small(2, kind="extension", parent=first.id)))
    assert first.result is not None and longer.result is not None, longer.error
    frames, _ = read_any(longer.result.path)
    before, _ = read_any(first.result.path)
    assert len(frames) == 8
    assert np.abs(frames[:4].astype(int) - before).mean() < 8
    assert sorted(path.name for path in desk.shelf.of(longer.id).glob("film-*")) == ["film-1.mp4", "film-1.mp4.json"]


def test_a_score_that_is_too_low_makes_another_seed(desk: Desk, small: Small) -> None:
    (job,) = claimed(desk, small(thresholds={"sharp": 1.0}, retries=1))
    (done,) = Runner(desk).run([job])
    assert done.result is not None and done.result.sidecar.run is not None
    assert sum("sharp" in note for note in done.result.sidecar.run.notes) == 2


def test_a_crash_of_the_log_or_the_preview_is_not_the_films(desk: Desk, small: Small) -> None:
    (job,) = claimed(desk, small())
    (desk.shelf.made(job.id) / "log.txt").mkdir()
    (desk.shelf.made(job.id) / "preview.webp").mkdir()
    (done,) = Runner(desk).run([job])
    assert done.state == "completed"


def test_ordering_what_cannot_be_made_is_refused_at_once(small: Small) -> None:
    with pytest.raises(RequestError, match="a draft is of a film"):
        small(kind="draft", num_frames=1)
    with pytest.raises(RequestError, match="num_frames=999"):
        small(num_frames=999)
