"""A worker process that stops in the middle of its first attempt at a job, until it is killed or told to leave.

`python -m tests.jobs.held_worker --hold STEP OPTIONS` with the options of `flickbook.jobs.workers.worker`. It computes
and reports STEP steps, each of which it also writes to the checkpoint, and then waits. So a test kills it in the
middle of a film, however short the film is and however fast the machine.
"""

from __future__ import annotations

import argparse
import sys

from tests.patience import until

from flickbook.engine.checkpoint import Checkpointer
from flickbook.jobs.workers import worker
from flickbook.jobs.workers.progress import Watch
from flickbook.spec import Step

MODULE = "tests.jobs.held_worker"


def main(hold: int, options: list[str]) -> int:
    """Runs the worker until its standard input ends."""
    watch, save = Watch.__call__, Checkpointer.save

    def held(self: Watch, step: Step) -> None:
        watch(self, step)
        if self._jobs[0].attempt == 1 and step.phase == "denoise" and step.index == hold:
            until(lambda: self._attempt.leaving)

    def saved(self: Checkpointer, state: object) -> None:
        save(self, state)  # type: ignore[arg-type]
        self.flush()

    Watch.__call__, Checkpointer.save = held, saved  # type: ignore[method-assign]
    return worker.main(options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold", type=int, required=True)
    found, others = parser.parse_known_args()
    sys.exit(main(found.hold, others))
