"""Runs a LoRA training as a job: its files are in the job's directory or at its output, and a later attempt resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flickbook.errors import Cancelled
from flickbook.files import link_or_copy
from flickbook.jobs.artifacts import NETWORK, ArtifactStore
from flickbook.jobs.workers.progress import Watch, webp
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.record import MODEL
from flickbook.learn.tuning.tune import Hooks, Training, prepare, tune
from flickbook.media.clip import Clip
from flickbook.spec import Step
from flickbook.store.base import Job


def training_of(artifacts: ArtifactStore, job: Job) -> Training:
    """The training of a tune job."""
    assert job.tuning is not None, "a tune job has its training"
    own = not job.tuning.output
    output = artifacts.tune(job.id, job.tuning.name) if own else Path(job.tuning.output)
    home = Path(job.model_dir) if job.model_dir else None
    config = TuneConfig(**job.tuning.config)  # type: ignore[arg-type]
    prompts = Path(job.tuning.prior_prompts) if job.tuning.prior_prompts else None
    return Training(
        Path(job.tuning.clips), output, job.plan, home, prompts, config, job.tuning.sample_every, uploaded=own
    )


def tuned(
    artifacts: ArtifactStore, job: Job, watch: Watch, cancel: Callable[[], bool], may_write: Callable[[], bool]
) -> Clip:
    """Trains the LoRA of a job and returns its film: the job's prompt with the LoRA.

    `watch` receives a Step for each encoded clip and each row of the log; samples are the previews. Raises Cancelled if
    the run is to stop or `may_write` forbids it, and the errors of `learn.tuning.tune`. A LoRA in the job's own
    directory is published for its owner; of a fine-tuned model the network is kept. There only an earlier attempt can
    still be writing: it stops at its next update, because it has lost its lease, and this one waits.
    """
    training = training_of(artifacts, job)
    began: dict[str, float] = {}

    def step(phase: str, index: int, total: int) -> None:
        now = time.perf_counter()
        watch(Step(phase, index, total, now - began.setdefault(phase, now)))  # type: ignore[arg-type]
        if phase == "encode" and cancel():
            raise Cancelled

    def sampled(update: int, frames: np.ndarray, fps: float) -> None:
        every = max(1, len(frames) // 8)
        watch.show(lambda: [(job, webp(frames[::every], fps / every))])

    def wait() -> bool:
        if cancel():
            raise Cancelled
        return training.uploaded

    hooks = Hooks(
        on_clip=lambda done, total: step("encode", done, total),
        on_row=lambda row: step("train", int(row["update"]), training.config.iterations),
        on_sample=sampled,
        stop=cancel,
        wait=wait,
        may_write=may_write,
    )

    def read(done: int, total: int) -> None:
        if cancel():
            raise Cancelled

    clip = tune(prepare(training, read), hooks)
    if clip is None or not may_write():
        raise Cancelled
    if job.tuning is not None and not job.tuning.output:
        if training.config.full:
            _keep_network(training.output)
            artifacts.upload(job.id)
        else:
            artifacts.publish(job.id, job.owner, job.tuning.name)
    return clip


def _keep_network(output: Path) -> None:
    """Puts the trained network beside its model, which is deleted when the job is completed."""
    networks = (output / MODEL / part / NETWORK for part in ("unet", "transformer"))
    (output / NETWORK).unlink(missing_ok=True)  # of an attempt that was interrupted
    link_or_copy(str(next(each for each in networks if each.is_file())), str(output / NETWORK))
