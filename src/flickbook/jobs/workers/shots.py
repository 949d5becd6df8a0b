"""Runs a film of several shots as a job: finished shots are kept in the job's directory, and a later attempt reuses
them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flickbook.engine.films import Keep, RunOptions, engine_of
from flickbook.engine.shots.film import made
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.jobs.workers.progress import Watch, moving
from flickbook.media.clip import Clip
from flickbook.spec import Plan
from flickbook.store.base import Job


def shots(
    artifacts: ArtifactStore, job: Job, run_options: RunOptions, watch: Watch, cancel: Callable[[], bool], keep: Keep
) -> Clip:
    """Makes the film of a shots job; `watch` receives its Steps, and `cancel` is checked after each of them.

    `keep` returns the checkpointer of a shot's Plan. Raises the errors of `flickbook.engine.shots.film.made`.
    """

    def show(plan: Plan, own: RunOptions, preview: Any) -> None:
        """Saves a preview of the shot that is being made."""
        watch.show(lambda: [(job, moving(engine_of(plan, own), plan, preview[0]))])

    # Each shot has a placement of its own, which its checkpoint and its finished file record.
    options, place = replace(run_options, placement=None), artifacts.takes(job.id)
    seen = show if job.home == "queue" else None
    return made(job.plan, options, directory=place, on_step=watch, on_preview=seen, cancel=cancel, keep=keep)
