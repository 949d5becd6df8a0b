"""The models on this worker's machine: which jobs can run here, and what happens to a job whose model is missing.

Machines of a queue need not have the same models. A worker leaves a job whose model is missing here to one that has it.
If the setting `pull` is auto, it downloads the model when no other worker has it, or when those that have it let the
job wait for `WAIT` seconds. Otherwise the job fails after `WAIT` seconds in which no worker has its model.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from typing import Final

from flickbook import catalogue
from flickbook.errors import Cancelled, FlickbookError, ModelNotPulled
from flickbook.hub.fetch import fetch
from flickbook.hub.find import found, terms, to_pull
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.lease import Attempt
from flickbook.store.base import Job

#: Seconds for which a job is left to others because its model is not on this machine.
WAIT: Final = 60.0
#: Seconds between two reports of a download's progress.
_SHOWN_EVERY: Final = 0.5

logger = logging.getLogger(__name__)


def installed() -> list[str]:
    """The models of the catalogue whose files are on this machine, sorted."""
    try:
        return sorted(model.name for model in catalogue.list_models() if found(model) is not None)
    except FlickbookError as error:  # the catalogue's own file is damaged: each job reports it
        logger.warning("the models on this machine are not known: %s", error)
        return []


def is_here(job: Job) -> bool:
    """Whether the models of a job are on this machine."""
    if job.model_dir:
        return True
    try:
        return all(found(catalogue.find(name)) is not None for name in job.plan.models())
    except FlickbookError:
        return False


def takes_missing(others_have_it: bool, waited: float, fetches: bool) -> bool:
    """Whether a worker takes a job whose model is missing on its machine, after `waited` seconds in which it was left
    to others. With `fetches` it would download the model, otherwise the job would fail.
    """
    return (fetches and not others_have_it) or (waited >= WAIT and (fetches or not others_have_it))


def supply(backend: Backend, fetches: bool, attempt: Attempt, jobs: Sequence[Job]) -> None:
    """Downloads the models of jobs that run together if they are missing here. The jobs show the progress.

    Raises ModelNotPulled unless this worker `fetches`, the errors of `hub.fetch.fetch`, and Cancelled.
    """
    first, shown = jobs[0], 0.0

    def on_bytes(done: int, total: int) -> None:
        nonlocal shown
        if attempt.stop():
            raise Cancelled
        if (now := time.monotonic()) - shown < _SHOWN_EVERY and done < total:
            return
        shown = now
        for job in jobs:
            progress = {"phase": "load", "index": done, "total": total, "fraction": 0.0, "eta_seconds": None}
            backend.artifacts.write_progress(job.id, **progress, attempt=job.attempt)

    for name in () if first.model_dir else filter(to_pull, first.plan.models()):
        model, host = catalogue.find(name), socket.gethostname()
        if not fetches:
            remedy = f"run `flickbook models pull {name}` there, or set FLICKBOOK_PULL=auto, then retry the job"
            raise ModelNotPulled(name, terms(model), remedy, f"the worker's machine {host}")
        logger.info("%s is not on this machine and is downloaded: %s", name, terms(model))
        fetch(model, on_bytes)
