"""One worker on a machine of a Ray cluster: the loop of `workers.worker`, in a thread of an actor's process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from flickbook.jobs.backend import Backend
from flickbook.jobs.cluster.scaling import ActorState
from flickbook.jobs.queue import BEAT, LEASE
from flickbook.jobs.workers.worker import Worker


class WorkerActor:
    """Runs jobs until `leave` is called. Its methods return at once, apart from `leave`.

    `store` and `artifacts` are URLs. They are arguments, because the environment of an actor is visible in the state of
    the cluster, and the addresses may hold passwords. `jobs_dir` is for a cluster on one machine that has no storage.
    """

    def __init__(
        self,
        store: str,
        artifacts: str = "",
        jobs_dir: str = "",
        batch: int | None = None,
        lease: float = LEASE,
        beat: float = BEAT,
    ) -> None:
        self._backend = Backend.at(store, Path(jobs_dir) if jobs_dir else None, artifacts)
        self._worker = Worker(self._backend, batch=batch, lease=lease, beat=beat, peers=True, fetches=True)
        self._thread = threading.Thread(target=self._worker.work, name="worker", daemon=True)
        self._thread.start()

    def state(self) -> ActorState:
        """Whether the worker is idle, and since when."""
        if not self._thread.is_alive():
            raise RuntimeError("the worker ended")  # the driver replaces the actor
        return ActorState(True, self._worker.idle, self._worker.name)

    def leave(self) -> None:
        """Releases the running jobs with checkpoints, and waits until their files are sent."""
        self._worker.leave()
        self._thread.join()
        self._backend.close()


def remote_class(ray: Any, gpus: float, cpus: float) -> Any:
    """The actor's class with what one worker takes of a machine. Ray restarts it on another machine if its own is lost.

    Calls are not repeated: the jobs themselves are repeated by their leases.
    """
    return ray.remote(num_gpus=gpus, num_cpus=cpus, max_restarts=-1, max_task_retries=0)(WorkerActor)
