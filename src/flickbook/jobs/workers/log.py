"""What is said while jobs run, in the log of each of them."""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

from flickbook.errors import OutputError
from flickbook.jobs.artifacts import LOG, ArtifactStore
from flickbook.jobs.workers.writer import SCRIBE
from flickbook.store.base import Job


@contextmanager
def logged(artifacts: ArtifactStore, jobs: Sequence[Job], writer: bool = False) -> Iterator[None]:
    """What the package logs goes to the jobs' logs too, and what a crash of the process leaves to the first one's.

    What a scribe's thread says is of the job that it writes, for which it says so here, and of no other.
    """
    with ExitStack() as stack:
        for job in jobs:
            with suppress(OSError, OutputError):
                path = artifacts.made(job.id) / LOG
                file = open(path, "a", encoding="utf-8")  # noqa: SIM115
                stack.callback(_closed, file)
                handler = _Quiet(file, [other.id for other in jobs if other.id != job.id], writer)
                package = logging.getLogger("flickbook")
                package.addHandler(handler)
                stack.callback(package.removeHandler, handler)
                if job.home == "queue" and job is jobs[0] and not writer:
                    faulthandler.enable(file)
                    stack.callback(faulthandler.enable)
        yield


class _Quiet(logging.StreamHandler[TextIO]):
    """A log on a full disk is no reason to stop; what names one of the `others` is not this one's owner's business."""

    def __init__(self, file: TextIO, others: Sequence[str], writer: bool) -> None:
        super().__init__(file)
        self._others, self._writer = tuple(others), writer
        formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is of this job, or of all."""
        mine = (record.threadName or "").startswith(SCRIBE) == self._writer
        return bool(super().filter(record)) and mine and not any(id in record.getMessage() for id in self._others)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without this line."""


def _closed(file: TextIO) -> None:
    """Close a log; what could not be written is lost."""
    with suppress(OSError):
        file.close()
