"""Writes log messages to the logs of the jobs that are running."""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, TextIO

from flickbook.errors import OutputError
from flickbook.jobs.artifacts import LOG, ArtifactStore
from flickbook.store.base import Job

#: Prefix of the names of threads that write films.
WRITER_THREAD: Final = "scribe"


@contextmanager
def logged(artifacts: ArtifactStore, jobs: Sequence[Job], writer: bool = False) -> Iterator[None]:
    """Copies the package's log messages to the logs of `jobs`, and a crash dump of the process to the first one's.

    With `writer`, only messages of a writer thread are copied, for the job that it writes; without, all other
    messages.
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
    """A log handler that ignores write errors, such as a full disk, and messages that name one of the `others`."""

    def __init__(self, file: TextIO, others: Sequence[str], writer: bool) -> None:
        super().__init__(file)
        self._others, self._writer = tuple(others), writer
        formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message belongs to this job, or to all jobs."""
        mine = (record.threadName or "").startswith(WRITER_THREAD) == self._writer
        return bool(super().filter(record)) and mine and not any(id in record.getMessage() for id in self._others)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drops a message that cannot be written."""


def _closed(file: TextIO) -> None:
    """Closes a log, ignoring errors."""
    with suppress(OSError):
        file.close()
