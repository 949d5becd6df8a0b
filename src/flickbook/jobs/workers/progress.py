"""Reports the progress and previews of running jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from flickbook.engine.engine import Engine
from flickbook.engine.films import RunOptions, engine_of
from flickbook.errors import Cancelled, StoreError
from flickbook.jobs.backend import Backend
from flickbook.jobs.eta import Pace, Past, history
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.prefetch import Reader
from flickbook.spec import Plan, Step
from flickbook.store.base import Job

OnStep = Callable[[Step], None]

#: The share of a run's time that previews may take: unwatched and watched.
_UNSEEN: Final = 0.03
_SEEN: Final = 0.25
#: Expected seconds of the first preview.
_FIRST: Final = 0.05
#: Frames of a film that a preview shows, and its maximum width and height.
_FRAMES: Final = 8
_SIDE: Final = 256
logger = logging.getLogger(__name__)


class Watch:
    """Receives every Step of a run, saves the progress of its jobs, and saves previews as time allows."""

    def __init__(
        self,
        backend: Backend,
        attempt: Attempt,
        jobs: Sequence[Job],
        run_options: RunOptions,
        on_step: OnStep | None,
        reader: Reader | None = None,
    ) -> None:
        self._backend, self._attempt, self._jobs = backend, attempt, jobs
        self._run_options, self._on_step, self._reader = run_options, on_step, reader
        found: list[Past] = []
        with suppress(StoreError):  # without history only the time estimate is worse
            found = backend.ask(history(backend.queue))
        first = jobs[0]
        self._pace = Pace(first.plan, found, until=first.until, films=len(jobs), tune=first.kind == "tune")
        self._began, self._spent, self._cost = time.monotonic(), 0.0, _FIRST
        self._blind = False
        #: The job whose film is being polished and written, once all films are decoded.
        self.finishing: Job | None = None

    def __call__(self, step: Step) -> None:
        # Polishing has no checkpoint, so only a cancelled or lost job is stopped there.
        if step.phase == "polish" and self._attempt.unwanted((self.finishing or self._jobs[0]).id):
            raise Cancelled
        self._report(step)
        if self._on_step is not None:
            self._on_step(step)
        if step.phase == "denoise" and self._reader is not None:
            self._reader.look()
        if step.preview is not None:
            previews = step.preview
            self.show(lambda: self._drawn(previews))

    @contextmanager
    def writing(self, job: Job | None = None) -> Iterator[None]:
        """Reports the start and the end of writing a film."""
        self.finishing = job or self._jobs[0]
        self._report(Step("write", 0, 1, 0.0))
        began = time.perf_counter()
        yield
        if self._on_step is not None:
            self._on_step(Step("write", 1, 1, time.perf_counter() - began))

    def _report(self, step: Step) -> None:
        if self._attempt.lost:
            return  # another worker reports its progress
        share, left = self._pace.after(step)
        active = self._left() if self.finishing is None else [self.finishing]
        self._attempt.report_progress(share, [job.id for job in active])
        for job in active:
            self._backend.artifacts.write_progress(
                job.id,
                phase=step.phase,
                index=step.index,
                total=step.total,
                fraction=round(share, 4),
                eta_seconds=None if left is None else round(left, 2),
                attempt=job.attempt,
            )

    def _left(self) -> list[Job]:
        """The unfinished jobs of this worker."""
        return [job for job in self._jobs if job.id in self._attempt.jobs]

    def _drawn(self, previews: Any) -> Iterator[tuple[Job, bytes]]:
        engine = engine_of(self._jobs[0].plan, self._run_options)
        left = self._left()
        seen = [job for job in left if self._backend.artifacts.watched(job.id)] or left
        for job, x0 in zip(self._jobs, previews, strict=False):
            if job in seen:
                yield job, moving(engine, job.plan, x0)

    def show(self, draw: Callable[[], Iterable[tuple[Job, bytes]]]) -> None:
        """Saves the previews that `draw` makes, if their share of the time allows."""
        if self._blind or self._jobs[0].home != "queue":
            return
        began = time.monotonic()
        watched = any(self._backend.artifacts.watched(job.id) for job in self._left())
        allowed = _SEEN if watched else _UNSEEN
        # A viewer gets the first preview at once; the wait for the next is longer to make up for it.
        at_once = watched and not self._spent
        if not at_once and self._spent + self._cost > allowed * (began - self._began):
            return
        try:
            for job, preview in draw():
                self._backend.artifacts.show(job.id, preview)
        except Exception as error:  # a failed preview must not fail the film
            logger.warning("no more previews of this film: %s", error)
            self._blind = True
        self._cost = time.monotonic() - began
        self._spent += self._cost


def moving(engine: Engine, plan: Plan, x0: Any) -> bytes:
    """A WebP of some frames of one film's estimate x0 (channels, frames, h, w), at the film's own speed."""
    # The built-in networks decode single frames at equal cost; a pipeline decodes frames in groups.
    every = max(1, plan.num_frames // _FRAMES) if engine.model.family == "unet" else 1
    return webp(engine.loaded().sketch(x0[:, ::every] if every > 1 else x0), plan.fps / every)


def webp(frames: np.ndarray, fps: float) -> bytes:
    """Encodes frames (n, height, width, 3) uint8 as an animated WebP, at most 256 pixels wide and high."""
    scale = min(1.0, _SIDE / max(frames.shape[1:3]))
    size = (max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale)))
    images = [Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR) for frame in frames]
    file = BytesIO()
    how: dict[str, Any] = {"save_all": True, "append_images": images[1:], "loop": 0, "quality": 70, "method": 0}
    images[0].save(file, "WEBP", duration=round(1000 / fps), **how)
    return file.getvalue()
