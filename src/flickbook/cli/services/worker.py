"""`flickbook worker`: runs worker processes on a machine that has no service."""

from __future__ import annotations

import signal
import sys
import threading

from flickbook.cli.services import options


def worker(
    store: options.Store = "",
    artifacts: options.Artifacts = "",
    workers: options.Workers = 1,
    batch: options.Batch = None,
) -> None:
    """Run worker processes for a queue that a service on another machine fills.

    They share the job store and the storage with the service. If a worker stops renewing the lease of its job, another
    one resumes the job from its last checkpoint.
    """
    from flickbook import settings
    from flickbook.cli import console
    from flickbook.jobs.backend import Backend
    from flickbook.jobs.workers.supervisor import Supervisor

    chosen = settings.load(store=store or None, artifacts=artifacts or None, batch=batch)
    console.start(chosen.log_level)
    with Backend.at(chosen.store, None, chosen.artifacts) as backend:
        backend.artifacts.check()
        title, root = backend.store.title, backend.artifacts.root
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    arguments = ["--peers", "--fetch", *([] if batch is None else ["--batch", str(batch)])]
    supervisor = Supervisor(chosen.store, root, workers, arguments, chosen.artifacts)
    supervisor.start()
    print(f"working on {title}", file=sys.stderr)
    over.wait()
    supervisor.stop()
    print("stopped", file=sys.stderr)
