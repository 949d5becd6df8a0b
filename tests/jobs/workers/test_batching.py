"""Jobs of one shape run as one batch: each is its own film, whatever becomes of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.jobs import held_worker
from tests.jobs.conftest import Small
from tests.patience import until

import flickbook
from flickbook.engine.films import RunOptions, films
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers import batching, runner
from flickbook.jobs.workers.batching import gather
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.runner import Runner
from flickbook.jobs.workers.worker import Worker
from flickbook.media.read import read_any
from flickbook.spec import Recipe, Request, Step
from flickbook.store.base import Job

LEASE = 600.0


@pytest.fixture(autouse=True)
def _three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_BATCH", "3")


def submitted(backend: Backend, *jobs: Job) -> list[Job]:
    return backend.ask(backend.queue.submit(jobs))


def now(backend: Backend, job: Job) -> Job:
    return backend.ask(backend.queue.job(job.id))


def recipe_of(job: Job) -> Recipe:
    assert job.result is not None and job.result.sidecar.recipe is not None, (job.state, job.error)
    return job.result.sidecar.recipe


@pytest.fixture
def small(small: Small) -> Small:
    """A job of a film of 2 frames in 4 steps, so that the films of most tests are equal."""
    return partial(small, num_frames=2, num_inference_steps=4)


_TOGETHER: dict[tuple[str, ...], list[str]] = {}


def together(jobs: Sequence[Job]) -> list[str]:
    """The hashes of the films of these jobs, made as one batch without a queue, and once for all tests."""
    key = tuple(job.plan.key() for job in jobs)
    if key not in _TOGETHER:
        found = [clip.recipe for clip in films([job.plan for job in jobs], RunOptions(batch_size=len(jobs)))]
        _TOGETHER[key] = [recipe.frames_sha256 for recipe in found if recipe is not None]
    return _TOGETHER[key]


def hashes(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    return [recipe_of(now(backend, job)).frames_sha256 for job in jobs]


def batch_of(backend: Backend, name: str = "a worker") -> batching.JobBatch:
    first = backend.ask(backend.store.claim(name, LEASE))
    assert first is not None
    return gather(backend, name, LEASE, first)


def run(backend: Backend, found: batching.JobBatch, on_step: Callable[[Step], None] | None = None) -> list[Job]:
    return Runner(backend, look=0.01).run(found.jobs, beside=found.slots, batch=found.batch, on_step=on_step)


def at(steps: int, do: Callable[[], object], phase: str = "denoise") -> Callable[[Step], None]:
    def on_step(step: Step) -> None:
        if step.phase == phase and step.index == steps:
            do()

    return on_step


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """The attempts that runners make, so that a test can wait until one has seen a change in the store."""
    found: list[Attempt] = []

    class Seen(Attempt):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            found.append(self)

    monkeypatch.setattr(runner, "Attempt", Seen)
    return found


def request_for(attempts: list[Attempt], job: Job) -> str:
    """What the running attempt knows to be wanted of a job."""
    held = attempts[-1].jobs.get(job.id)
    return "" if held is None else held.wanted


@pytest.mark.slow
def test_jobs_of_one_shape_run_as_one_batch(backend: Backend, small: Small) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    began = time.monotonic()
    assert Worker(backend).work(3) == 3
    lasted = time.monotonic() - began
    done = [now(backend, job) for job in jobs]
    assert [job.state for job in done] == ["completed"] * 3
    assert hashes(backend, jobs) == together(jobs) and len(set(hashes(backend, jobs))) == 3
    for job in done:
        recipe = recipe_of(job)
        assert recipe.plan == job.plan and recipe.placement.batch == 3 and job.result is not None
        assert read_any(job.result.path)[0].shape[0] == job.plan.num_frames
        assert Path(job.result.path).parent == backend.artifacts.of(job.id) and job.attempt == 1
        assert backend.artifacts.progress(job.id)["phase"] == "write"
    # The three share the device, so each is charged for a third of the time.
    assert 0 < sum(job.seconds for job in done) <= lasted
    assert backend.artifacts.ids() == sorted(job.id for job in jobs), "the batch's own directory is gone"


@pytest.mark.slow
def test_a_single_job_runs_without_a_batch(backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_BATCH", "1")
    jobs = submitted(backend, small(5), small(6))
    assert [found.batch for found in (batch_of(backend), batch_of(backend))] == ["", ""]
    assert batching.room(jobs[0]) == 1
    monkeypatch.setenv("FLICKBOOK_BATCH", "3")
    assert batching.room(jobs[0]) == 3
    (job,) = submitted(backend, small(5))
    Worker(backend).work(1)
    assert recipe_of(now(backend, job)).placement.batch == 1
    assert hashes(backend, [job]) == together([job])


def test_jobs_of_other_shapes_keep_their_places(backend: Backend, small: Small) -> None:
    shapes = [(1, 3), (2, 4), (3, 3), (4, 4), (5, 3), (6, 3)]
    jobs = submitted(backend, *(small(seed, num_inference_steps=steps) for seed, steps in shapes))
    taken = [[job.plan.seed for job in batch_of(backend).jobs] for _ in range(3)]
    assert taken == [[1, 3, 5], [2, 4], [6]]
    assert {now(backend, job).state for job in jobs} == {"running"}


def test_only_jobs_of_equal_shape_and_options_are_batched(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(backend, small(0))
    alone = [
        small(1, priority=-1),
        small(2, kind="draft", until=0.5),
        small(3, thresholds={"sharp": 0.1}),
        small(4, parent="job_" + "0" * 26),
        small(5, precision="fp32"),
        small(6, num_frames=1),
    ]
    assert len(submitted(backend, *alone)) == 6 and len(batch_of(backend).jobs) == 1
    while (first := backend.ask(backend.store.claim("w", LEASE))) is not None:
        assert len(gather(backend, "w", LEASE, first).jobs) == 1
    # One that was begun before is not taken along: it may have a state of its own.
    (started,) = submitted(backend, small(7))
    claimed = backend.ask(backend.store.claim("w", LEASE))
    assert claimed is not None
    backend.ask(backend.queue.release(claimed))
    (fresh,) = submitted(backend, small(8))
    backend.ask(backend.queue.reorder(fresh.id, started.id))
    assert [job.id for job in batch_of(backend).jobs] == [fresh.id]
    submitted(backend, small(9))
    assert [job.id for job in batch_of(backend).jobs] == [started.id], "nor does it take others along"
    # Nor those too far behind.
    submitted(backend, small(10), small(11))
    monkeypatch.setattr(batching, "NEXT", 1)
    assert [job.plan.seed for job in batch_of(backend).jobs] == [9, 10]


@pytest.mark.slow
@pytest.mark.parametrize("wish", ["cancel", "remove"])
def test_cancelling_one_job_of_a_batch_does_not_stop_the_others(
    backend: Backend, small: Small, attempts: list[Attempt], wish: str
) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    ended: list[str] = []

    def step(each: Step) -> None:
        if each.phase == "denoise" and each.index == 1:
            backend.ask(backend.queue.cancel(jobs[0].id))
            until(lambda: request_for(attempts, jobs[0]))
        if each.phase == "denoise" and each.index == 3:
            ended.append(now(backend, jobs[0]).state)
            if wish == "remove":
                backend.ask(backend.queue.remove(jobs[0].id))

    found = run(backend, batch_of(backend), step)
    assert ended == ["cancelled"], "before the others are done"
    assert {job.id: job.state for job in found} == dict(
        zip([job.id for job in jobs], ["cancelled", "completed", "completed"], strict=True)
    )
    assert hashes(backend, jobs[1:]) == together(jobs)[1:]
    assert not list(backend.artifacts.of(jobs[0].id).glob("film-*"))


@pytest.mark.slow
def test_a_paused_job_of_a_batch_resumes_from_the_batch_checkpoint(
    backend: Backend, small: Small, attempts: list[Attempt]
) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    pause = at(2, lambda: (backend.ask(backend.queue.pause(jobs[1].id)), until(lambda: request_for(attempts, jobs[1]))))
    assert sorted(job.state for job in run(backend, batch_of(backend), pause)) == ["completed", "completed", "paused"]
    backend.ask(backend.queue.resume(jobs[1].id))
    again = batch_of(backend)
    assert [job.id for job in again.jobs] == [jobs[1].id] and len(again.slots) == 3
    steps: list[Step] = []
    run(backend, again, steps.append)
    assert hashes(backend, jobs) == together(jobs)
    assert [step.index for step in steps if step.phase == "denoise"] == [4], "it was denoised with the others"
    assert backend.artifacts.ids() == sorted(job.id for job in jobs)


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [False, True])
def test_a_released_batch_resumes_together(backend: Backend, small: Small, deleted: bool) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    first, found = Runner(backend, look=0.01), batch_of(backend)
    released = first.run(found.jobs, beside=found.slots, batch=found.batch, on_step=at(2, first.leave))
    assert [(job.state, job.stalls) for job in released] == [("queued", 0)] * 3
    if deleted:  # with all of its files
        backend.ask(backend.queue.remove(jobs[0].id))
    submitted(backend, small(9))
    again = batch_of(backend, "another")
    assert [job.id for job in again.jobs] == [job.id for job in jobs[deleted:]] and again.batch == found.batch
    steps: list[Step] = []
    assert {job.state for job in run(backend, again, steps.append)} == {"completed"}
    assert min(step.index for step in steps if step.phase == "denoise") == 3
    assert hashes(backend, jobs[deleted:]) == together(jobs)[deleted:]
    assert (
        all(job.id not in backend.artifacts.ids() for job in jobs[:deleted])
        and found.batch not in backend.artifacts.ids()
    )


def killed_at(backend: Backend, jobs: Sequence[Job], step: int, tmp_path: Path) -> None:
    """Have a worker process take the jobs, and kill it when it has computed so many of their steps."""
    words = [sys.executable, "-m", held_worker.MODULE, "--hold", str(step), "--name", "w", "--batch", "3"]
    words += ["--store", f"sqlite:///{tmp_path}/jobs.db", "--jobs-dir", str(tmp_path / "jobs")]
    paths = os.pathsep.join((str(Path(flickbook.__file__).parents[1]), str(Path(__file__).parents[3])))
    with subprocess.Popen(words, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as process:
        until(lambda: all(backend.artifacts.progress(job.id).get("index") == step for job in jobs))
        os.kill(process.pid, signal.SIGKILL)
    assert all(backend.artifacts.progress(job.id)["phase"] == "denoise" for job in jobs)
    assert all(job.state == "queued" for job in backend.ask(backend.queue.release_jobs_of("w", "it was killed")))


@pytest.mark.slow
def test_the_batch_of_a_killed_worker_resumes_to_the_same_pixels(
    backend: Backend, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLICKBOOK_BATCH")  # its option says it, and its batch whoever goes on
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    killed_at(backend, jobs, 2, tmp_path)
    steps: list[Step] = []
    again = batch_of(backend, "another")
    assert [job.attempt for job in again.jobs] == [2, 2, 2]
    run(backend, again, steps.append)
    assert [now(backend, job).state for job in jobs] == ["completed"] * 3
    assert hashes(backend, jobs) == together(jobs)
    assert min(step.index for step in steps if step.phase == "denoise") == 2, "from their checkpoint"


@pytest.mark.slow
def test_jobs_are_run_singly_after_their_batch_killed_workers(backend: Backend, small: Small) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    for _ in range(2):  # twice the worker of all three dies before anything is done
        assert len(batch_of(backend, "w").jobs) == 3
        backend.ask(backend.queue.release_jobs_of("w", "it was killed"))
    assert len(batch_of(backend, "w").jobs) == 1
    backend.ask(backend.queue.release_jobs_of("w", "it was killed"))
    assert Worker(backend).work(2) == 2
    assert [now(backend, job).error_code for job in jobs] == ["worker_lost", "", ""]
    assert [recipe_of(now(backend, job)).placement.batch for job in jobs[1:]] == [1, 1]
    assert hashes(backend, jobs[1:]) == [*together(jobs[1:2]), *together(jobs[2:])]
    assert all(not id.startswith("batch_") for id in backend.artifacts.ids())


@pytest.mark.slow
def test_a_failing_job_does_not_fail_its_batch(backend: Backend, small: Small, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    next(films([small(num_frames=1).plan])).save(picture)
    started = [small(seed, image=str(picture)) for seed in (1, 2, 3)]
    jobs = submitted(backend, *started)
    changed = Request.model_validate({**jobs[0].request.model_dump(), "image": str(tmp_path / "none.png")})
    backend.ask(backend.store.change(jobs[0].id, ("queued",), {"request": changed}))
    (backend.artifacts.made(jobs[1].id) / "film-1.mp4").mkdir()
    run(backend, batch_of(backend))
    found = [now(backend, job) for job in jobs]
    assert [job.state for job in found] == ["failed", "failed", "completed"]
    assert "none.png" in found[0].error and "none.png" not in backend.artifacts.read_log(jobs[2].id)
    assert recipe_of(found[2]).placement.batch == 3
    assert not backend.artifacts.read_log(jobs[2].id).count("Traceback")


@pytest.mark.slow
def test_a_failing_batch_is_retried_job_by_job(backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that memory does not hold, say: what then fails by itself fails for its own reason."""
    from flickbook.engine.unet.family import UNetFamily

    true = UNetFamily.denoise

    def crowded(self: UNetFamily, plans, *words, **options):  # type: ignore[no-untyped-def]
        if len(plans) > 1 or plans[0].seed == 2:
            raise ValueError("too many films")
        return true(self, plans, *words, **options)

    monkeypatch.setattr(UNetFamily, "denoise", crowded)
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    run(backend, batch_of(backend))
    monkeypatch.undo()
    assert [now(backend, job).state for job in jobs] == ["completed", "failed", "completed"]
    assert "too many films" in now(backend, jobs[1]).error
    assert hashes(backend, [jobs[0], jobs[2]]) == [*together(jobs[:1]), *together(jobs[2:])]


@pytest.mark.slow
def test_an_error_after_denoising_costs_the_other_films_no_step(
    backend: Backend, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flickbook.engine import films as engine

    true = engine.polished

    def polished(frames, fps, polish, *words):  # type: ignore[no-untyped-def]
        if polish.text:
            raise ValueError("cannot be written upon")
        return true(frames, fps, polish, *words)

    monkeypatch.setattr(engine, "polished", polished)
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    bad = jobs[1].plan.model_copy(update={"polish": jobs[1].plan.polish.model_copy(update={"text": "no"})})
    backend.ask(backend.store.change(jobs[1].id, ("queued",), {"plan": bad}))
    steps: list[Step] = []
    run(backend, batch_of(backend), steps.append)
    assert [now(backend, job).state for job in jobs] == ["completed", "failed", "completed"]
    assert [step.index for step in steps if step.phase == "denoise"] == [1, 2, 3, 4, 4]
    assert hashes(backend, [jobs[0], jobs[2]]) == [together(jobs)[0], together(jobs)[2]]


@pytest.mark.slow
def test_a_job_lost_to_another_worker_does_not_affect_its_batch(
    backend: Backend, small: Small, attempts: list[Attempt]
) -> None:
    jobs = submitted(backend, *(small(seed) for seed in (1, 2, 3)))
    found = batch_of(backend)

    def lose() -> None:
        mine = now(backend, jobs[1])
        backend.ask(backend.store.settle(mine.id, mine.attempt, {"state": "queued"}))
        assert backend.ask(backend.store.claim("another", LEASE)) is not None
        until(lambda: jobs[1].id not in attempts[-1].jobs)

    assert sorted(job.id for job in run(backend, found, at(2, lose))) == sorted([jobs[0].id, jobs[2].id])
    assert (now(backend, jobs[1]).state, now(backend, jobs[1]).attempt) == ("running", 2)
    assert hashes(backend, [jobs[0], jobs[2]]) == [together(jobs)[0], together(jobs)[2]]
    assert backend.artifacts.members(found.batch) == [jobs[1].id], "who has it now may go on from there"
