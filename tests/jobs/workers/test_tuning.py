"""Trainings as jobs: whatever stops one, it continues to the LoRA that it would have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from flickbook.errors import Cancelled
from flickbook.files import sha256
from flickbook.jobs.artifacts import WEIGHTS
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import tuning
from flickbook.jobs.workers import tuning as worker
from flickbook.jobs.workers.runner import Runner
from flickbook.learn.tuning.tune import Hooks
from flickbook.resolution import resolve
from flickbook.spec import Request, Step
from flickbook.store.base import Job

CLIPS = Path(__file__).parents[3] / "examples" / "clips"


def queued(backend: Backend, tmp_path: Path) -> Job:
    """A training of 20 updates on 2 clips, in the queue and claimed."""
    clips = tmp_path / "clips"
    if not clips.exists():
        clips.mkdir()
        for name in ("000.mp4", "000.txt", "001.mp4", "001.txt"):
            (clips / name).write_bytes((CLIPS / name).read_bytes())
    request = Request.of(prompt="a red circle", num_frames=3, num_inference_steps=1, seed=1)
    config = {"iterations": 20, "batch": 1, "rank": 2, "lr": 2e-3, "validation": 0.0, "warmup": 1}
    how = {"clips": str(clips), "name": "zigzag", "config": config, "sample_every": 0}
    (kept,) = backend.ask(backend.queue.submit([tuning(resolve(request), request, how)]))
    return claimed(backend, kept.id)


def claimed(backend: Backend, id: str) -> Job:
    found = backend.ask(backend.store.claim("a worker", 30.0, id=id))
    assert found is not None
    return found


def weights(backend: Backend, job: Job) -> str:
    return sha256(backend.artifacts.tune(job.id, "zigzag") / WEIGHTS)


def at(update: int, do: Callable[[], object]) -> Callable[[Step], None]:
    """Something that is done when this update is reported, which every tenth is."""

    def on_step(step: Step) -> None:
        if step.phase == "train" and step.index == update:
            do()

    return on_step


@pytest.mark.slow
def test_a_paused_training_continues_to_the_same_lora(backend: Backend, tmp_path: Path) -> None:
    whole = queued(backend, tmp_path)
    (done,) = Runner(backend).run([whole])
    assert done.state == "completed" and done.result is not None, done.error
    assert backend.artifacts.lora_name(whole.id) == "zigzag"

    job = queued(backend, tmp_path)
    pause = at(10, lambda: backend.ask(backend.queue.pause(job.id)))
    (paused,) = Runner(backend, look=0.01).run([job], on_step=pause)
    assert paused.state == "paused" and not backend.artifacts.lora_name(job.id)
    assert backend.ask(backend.queue.resume(job.id)).state == "queued"
    steps: list[Step] = []
    (done,) = Runner(backend).run([claimed(backend, job.id)], on_step=steps.append)
    assert done.state == "completed", done.error
    assert [step.index for step in steps if step.phase == "train"][0] > 10
    assert weights(backend, job) == weights(backend, whole)
    # The name was taken by the first training, and its file is not replaced.
    assert backend.artifacts.lora_name(job.id) == "zigzag-2"
    backend.artifacts.clear(whole.id)
    assert [path.name for path in backend.artifacts.loras("").iterdir()] == ["zigzag-2.safetensors"]


def test_a_later_attempt_waits_until_an_earlier_one_has_left_its_directory(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, found = queued(backend, tmp_path), list[Hooks]()
    monkeypatch.setattr(worker, "prepare", lambda *_: None)
    monkeypatch.setattr(worker, "tune", lambda prepared, hooks: found.append(hooks))
    assert job.tuning is not None
    chosen = job.tuning.model_copy(update={"output": str(tmp_path / "lora")})
    stops = iter([False, False, True])
    for each in (job, job.model_copy(update={"tuning": chosen}), job):
        with pytest.raises(Cancelled):  # nothing was trained
            worker.tuned(backend.artifacts, each, Mock(), lambda: next(stops), lambda: True)
    own, directory, cancelled = found
    assert own.wait() and not directory.wait(), "what else writes to a directory of a command may take any time"
    with pytest.raises(Cancelled):
        cancelled.wait()


@pytest.mark.slow
def test_a_training_without_usable_clips_fails_and_is_retried(backend: Backend, tmp_path: Path) -> None:
    job = queued(backend, tmp_path)
    caption = tmp_path / "clips" / "000.txt"
    for name in ("000.txt", "001.txt"):
        (tmp_path / "clips" / name).write_text("", encoding="utf-8")
    (failed,) = Runner(backend).run([job])
    assert failed.state == "failed" and "no usable clip" in failed.error
    caption.write_text("a red circle zigzagging", encoding="utf-8")
    backend.ask(backend.queue.retry(job.id))
    (done,) = Runner(backend).run([claimed(backend, job.id)])
    assert done.state == "completed", done.error
