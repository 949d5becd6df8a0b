"""The process that keeps workers on a Ray cluster. The server starts it and restarts it.

It is a process of its own, because Ray ends a process that loses the head of its cluster. It exits on SIGTERM and when
its standard input ends; its workers then release their jobs. For its options see
`python -m flickbook.jobs.cluster.driver --help`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from flickbook import settings
from flickbook.errors import FlickbookError, MissingExtra, RequestError, StoreError
from flickbook.jobs.backend import Backend
from flickbook.jobs.cluster.actor import remote_class
from flickbook.jobs.cluster.requirements import check_shared
from flickbook.jobs.cluster.scaling import IDLE_AFTER, ActorState, change
from flickbook.jobs.queue import BEAT, LEASE
from flickbook.jobs.workers.roster import Roster
from flickbook.jobs.workers.worker import leave_at_end

#: Seconds between two looks at the queue and the actors, for an actor to answer, and for all to release their jobs.
LOOK: Final = 1.0
_ANSWER: Final = 5.0
_PATIENCE: Final = 15.0
#: Variables that Ray reads when it is imported: calls need a token, and nothing is reported to its makers.
_VARIABLES: Final = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}

logger = logging.getLogger(__name__)


def connected(address: str) -> Any:
    """Connects to the cluster at `address`, or for "auto" to one on this machine, which is started if there is none.

    Returns the module `ray`. Raises MissingExtra, RequestError.
    """
    if (mode := settings.set_defaults(_VARIABLES)["RAY_AUTH_MODE"]) != "token":
        limit = "would let everyone who reaches the cluster run code on its machines"
        raise RequestError("RAY_AUTH_MODE", mode, limit, "set it to token on every machine")
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "cluster") from None
    how: dict[str, Any] = {"namespace": "flickbook", "logging_level": "warning", "log_to_driver": True}
    try:
        if address != "auto":
            ray.init(address=address, **how)
        else:
            try:
                ray.init(address="auto", **how)
            except ConnectionError:
                ray.init(include_dashboard=False, **how)
    except Exception as error:
        remedy = "check the address, RAY_AUTH_TOKEN, and that `ray status` works on this machine"
        raise RequestError("cluster", address, f"{type(error).__name__}: {error}", remedy) from None
    return ray


def has_gpus(ray: Any) -> bool:
    """Whether workers of the cluster run on GPUs: if it has any now, or if its autoscaler may add machines that do.

    A cluster without GPUs and CPUs is a head that waits for its machines, which are expected to have GPUs.
    """
    now = ray.cluster_resources()
    if now.get("GPU", 0) > 0:
        return True
    try:  # no public function of Ray tells what its autoscaler may add
        most = ray._private.state.state.get_max_resources_from_cluster_config()
    except Exception as error:
        logger.debug("what Ray's autoscaler may add is not known: %s", error)
        most = None
    if most:
        return bool(most.get("GPU", 0) > 0)
    return not now.get("CPU", 0) > 0


class Driver:
    """Keeps as many actors as the queue needs, at most `most`. Raises RequestError for a store that machines cannot
    share.
    """

    def __init__(
        self,
        ray: Any,
        backend: Backend,
        store: str,
        artifacts: str,
        *,
        most: int,
        batch: int | None = None,
        lease: float = LEASE,
        beat: float = BEAT,
        idle: float = IDLE_AFTER,
    ) -> None:
        self._ray, self._backend, self._most, self._idle = ray, backend, most, idle
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        if nodes > 1:
            check_shared(store, artifacts)
        self._degree = settings.load().ulysses_degree
        jobs_dir = "" if artifacts else str(backend.artifacts.root)
        self._arguments = (store, artifacts, jobs_dir, batch, lease, beat)
        self._actors: list[Any] = []
        self._roster = Roster(backend.store, beat)
        self._over = threading.Event()
        gpus = ray.cluster_resources().get("GPU", 0)
        title = f"{nodes} {'machine' if nodes == 1 else 'machines'}, {gpus:g} GPUs"
        print(f"workers run on a Ray cluster: {title}", file=sys.stderr)

    def leave(self) -> None:
        """Makes `run` release all jobs and return."""
        self._over.set()

    def run(self) -> None:
        """Looks at the queue and the actors until `leave` is called."""
        try:
            while not self._over.wait(LOOK):
                try:
                    self._look()
                except StoreError as error:
                    logger.error("%s", error)
        finally:
            self._stop(self._actors)

    def _look(self) -> None:
        states = self._states()
        counts = self._backend.ask(self._backend.store.counts())
        elsewhere = set(self._backend.ask(self._roster.alive())) - {state.name for state in states}
        found = change(states, counts["queued"], counts["running"], self._most, len(elsewhere), self._idle)
        self._stop([self._actors[number] for number in found.stop])
        self._actors = [actor for number, actor in enumerate(self._actors) if number not in found.stop]
        if found.start:
            kind = remote_class(self._ray, self._degree if has_gpus(self._ray) else 0.0, 1.0)
            self._actors += [kind.remote(*self._arguments) for _ in range(found.start)]
        if found.start or found.stop:
            logger.info("%d actors: %d started, %d stopped", len(self._actors), found.start, len(found.stop))

    def _states(self) -> list[ActorState]:
        """The state of each actor; an actor that is lost for good is replaced by the next look."""
        calls = [actor.state.remote() for actor in self._actors]
        done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=_ANSWER) if calls else ([], [])
        answered, states, kept = set(done), list[ActorState](), list[Any]()
        for actor, call in zip(self._actors, calls, strict=True):
            state = ActorState()
            if call in answered:
                try:
                    state = self._ray.get(call)
                except self._ray.exceptions.ActorUnavailableError:
                    pass  # Ray is restarting it
                except self._ray.exceptions.RayError as error:
                    logger.error("a worker is replaced: %s", str(error).partition("\n")[0])
                    self._ray.kill(actor)
                    continue
            kept.append(actor)
            states.append(state)
        self._actors = kept
        return states

    def _stop(self, actors: Sequence[Any]) -> None:
        """Lets actors release their jobs, then ends them."""
        if not actors:
            return
        calls = [actor.leave.remote() for actor in actors]
        self._ray.wait(calls, num_returns=len(calls), timeout=_PATIENCE)
        for actor in actors:
            self._ray.kill(actor)


def main(arguments: list[str] | None = None) -> int:
    """Runs a driver until standard input ends or SIGTERM arrives; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flickbook.jobs.cluster.driver", description="Workers on Ray.")
    parser.add_argument("--name", default="", help="ignored; every process of the supervisor gets one")
    parser.add_argument("--address", default="auto", help="of the cluster, or auto")
    parser.add_argument("--most", type=int, required=True, help="actors at most")
    parser.add_argument("--batch", type=int, help="jobs of one shape that run as one batch at most")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds a claim holds")
    parser.add_argument("--beat", type=float, default=BEAT, help="seconds between two heartbeats")
    parser.add_argument("--idle", type=float, default=IDLE_AFTER, help="seconds until an idle worker is stopped")
    options = parser.parse_args(arguments)
    chosen = settings.load()
    logging.basicConfig(level=chosen.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        with Backend.at() as backend:
            driver = Driver(
                connected(options.address),
                backend,
                chosen.store,
                chosen.artifacts,
                most=options.most,
                batch=options.batch,
                lease=options.lease,
                beat=options.beat,
                idle=options.idle,
            )
            leave_at_end(driver.leave)
            driver.run()
    except FlickbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
