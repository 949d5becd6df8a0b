"""A sequence as a job: its pictures lie in the job's own directory, and whoever takes it up goes on with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.engine.films import RunOptions
from flickbook.engine.sequences.sequence import made
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.workers.preview import webp
from flickbook.jobs.workers.progress import Watch
from flickbook.media.clip import Clip
from flickbook.media.read import read_picture
from flickbook.spec import Step
from flickbook.store.base import Job

#: Pictures of a preview at most.
_SHOWN: Final = 12


def sequence(
    artifacts: ArtifactStore, job: Job, run_options: RunOptions, watch: Watch, cancel: Callable[[], bool]
) -> Clip:
    """The film of a sequence's job, of which `watch` is told; `cancel` is asked after each denoising step.

    Its pictures are saved as they are made, and those of an attempt before are taken where they were made on a machine
    like this one. Raises what `flickbook.engine.sequences.sequence.made` raises.
    """
    place = artifacts.pictures(job.id)
    teller = _Teller(place, job, watch)
    # Nobody else writes there, so that what is of another placement may go.
    return made(job.plan, run_options, directory=place, overwrite=True, on_step=teller, cancel=cancel)


class _Teller:
    """Tells a Watch of a sequence's Steps: pictures that were there already took no time, and what there is, is shown.

    `place` is where the pictures are.
    """

    def __init__(self, place: Path, job: Job, watch: Watch) -> None:
        self._place, self._job, self._plan, self._watch = place, job, job.plan, watch
        self._kept, self._read = 0, 0.0

    def __call__(self, step: Step) -> None:
        if step.phase != "denoise":
            if step.phase == "encode":  # what cannot be gone on from is gone by now
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
        """How many pictures there are, from the first on."""
        frame = 0
        while frame < self._plan.num_frames and self._path(frame).exists():
            frame += 1
        return frame

    def _so_far(self, count: int) -> bytes:
        """The first `count` pictures as a moving preview."""
        every = -(-count // _SHOWN)
        frames = np.stack([read_picture(self._path(frame)) for frame in range(0, count, every)])
        return webp(frames, self._plan.fps / every)
