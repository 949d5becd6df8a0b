"""Runs a sequence as a job: its pictures are saved in the job's directory, and a later attempt resumes from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.engine.films import RunOptions
from flickbook.engine.sequences.sequence import made
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.workers.progress import Watch, webp
from flickbook.media.clip import Clip
from flickbook.media.read import read_picture
from flickbook.spec import Step
from flickbook.store.base import Job

#: Maximum pictures of a preview.
_SHOWN: Final = 12


def sequence(
    artifacts: ArtifactStore, job: Job, run_options: RunOptions, watch: Watch, cancel: Callable[[], bool]
) -> Clip:
    """Makes the film of a sequence job; `watch` receives its Steps, and `cancel` is checked after each denoising step.

    Pictures are saved as they are made. Those of an earlier attempt are reused if they were made on an equal
    machine. Raises the errors of `flickbook.engine.sequences.sequence.made`.
    """
    place = artifacts.pictures(job.id)
    progress = _SequenceProgress(place, job, watch)
    # Only this job writes there, so pictures of another placement may be overwritten.
    return made(job.plan, run_options, directory=place, overwrite=True, on_step=progress, cancel=cancel)


class _SequenceProgress:
    """Passes the Steps of a sequence to a Watch, and saves a preview after each picture.

    Pictures of an earlier attempt are not counted as work. `place` is the directory of the pictures.
    """

    def __init__(self, place: Path, job: Job, watch: Watch) -> None:
        self._place, self._job, self._plan, self._watch = place, job, job.plan, watch
        self._kept, self._read = 0, 0.0

    def __call__(self, step: Step) -> None:
        if step.phase != "denoise":
            if step.phase == "encode":  # pictures that cannot be reused are removed by now
                self._kept = self._there()
            self._watch(step)
            return
        if step.index < self._kept:
            return
        if step.index == self._kept:
            self._read = step.seconds
        self._watch(replace(step, seconds=step.seconds - self._read))
        self._watch.show(lambda: [(self._job, self._so_far(step.index))])

    def _path(self, frame: int) -> Path:
        return self._place / f"{frame:05d}.png"

    def _there(self) -> int:
        """The number of consecutive pictures from the first one on."""
        frame = 0
        while frame < self._plan.num_frames and self._path(frame).exists():
            frame += 1
        return frame

    def _so_far(self, count: int) -> bytes:
        """The first `count` pictures as an animated preview."""
        every = -(-count // _SHOWN)
        frames = np.stack([read_picture(self._path(frame)) for frame in range(0, count, every)])
        return webp(frames, self._plan.fps / every)
