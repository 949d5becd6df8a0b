"""A worker process that writes down each step it computed, and when it saw that its job is cancelled.

`python -m tests.jobs.shared.observed_worker FILE OPTIONS` with the options of `flickbook.jobs.workers.worker`. FILE
gets a line for each of them, in their order: `step` or `cancelled`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flickbook.jobs.workers import worker
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.progress import Watch
from flickbook.spec import Step
from flickbook.store.base import Job


def main(path: Path, options: list[str]) -> int:
    """Runs the worker until its standard input ends."""
    visit, watch = Attempt._visit, Watch.__call__
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def visited(self: Attempt, job: Job, beat: bool) -> None:
            visit(self, job, beat)
            now = self.jobs.get(job.id)
            if now is not None and now.wanted == "cancel" and job.wanted != "cancel":
                file.write("cancelled\n")

        def watched(self: Watch, step: Step) -> None:
            if step.phase == "denoise":
                file.write("step\n")
            watch(self, step)

        Attempt._visit, Watch.__call__ = visited, watched  # type: ignore[method-assign]
        return worker.main(options)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
