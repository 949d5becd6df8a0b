"""What a cluster of a given size does: use of its GPUs, waiting times, and work that failures cost.

    python -m bench.cluster_sim                        10 to 10,000 GPUs with the mix in MIX
    python -m bench.cluster_sim --gpus 40 --load 0.8   one size
    python -m bench.cluster_sim --measured             a real cluster of 1 and 2 workers beside its simulation

A simulation of the queue's own rules: jobs are taken in order; a job is left to a worker that has its model loaded and
is free before another one could load it (`jobs.workers.affinity.takes`); a lost
worker's job returns when its lease expires and continues from its last checkpoint. Arrivals and failures are random
(Poisson). The times of loading and of films are inputs, with their origin in a comment. A wait lasts until the first
step of a film is computed, so it includes the loading of its model.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import sys
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from flickbook.jobs.queue import LEASE
from flickbook.jobs.workers.affinity import Peer, takes

#: Seconds between two checkpoints that reach the storage; a worker sends changed files every second.
CHECKPOINT = 2.0
SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000)


@dataclass(frozen=True)
class Model:
    """A model of the mix: its share of the jobs, and the seconds to load it and to make a film with it."""

    name: str
    share: float
    load: float
    film: float


#: An assumed mix: the shares are a guess, the seconds those of public reports for one H100-class GPU
#: (docs/scale.md). `--measured` uses seconds that it measures.
MIX = (
    Model("wan-2.1-1.3b", 0.35, 20.0, 45.0),
    Model("ltx-video", 0.30, 15.0, 10.0),
    Model("wan-2.2-14b", 0.15, 90.0, 400.0),
    Model("text-to-video-ms-1.7b", 0.15, 8.0, 12.0),
    Model("hunyuanvideo", 0.05, 70.0, 300.0),
)


@dataclass
class Worker:
    """A GPU: the model that it holds, and the job that it runs until the event with this number."""

    model: str = ""
    job: Job | None = None
    event: int = -1
    began: float = 0.0
    end: float = 0.0
    loading: float = 0.0


@dataclass
class Job:
    """A film: when it arrived, its model, the seconds of work that are left, and when it was first left to others."""

    arrived: float
    model: Model
    left: float
    skipped: float | None = None
    waited: float | None = None


@dataclass
class Outcome:
    """What was counted: GPU seconds by use, and the waits of finished jobs."""

    films: float = 0.0
    loading: float = 0.0
    lost: float = 0.0
    seconds: float = 0.0
    failures: int = 0
    waits: list[float] = field(default_factory=list)

    def row(self, gpus: int, load: float) -> dict[str, float]:
        """The numbers of a report; shares are of all GPU seconds."""
        waits = sorted(self.waits)
        return {
            "gpus": gpus,
            "load": load,
            "films": len(waits),
            "films of time": self.films / self.seconds,
            "loading of time": self.loading / self.seconds,
            "lost of time": self.lost / self.seconds,
            "failures": self.failures,
            "wait p50 s": statistics.median(waits) if waits else float("nan"),
            "wait p95 s": waits[int(0.95 * (len(waits) - 1))] if waits else float("nan"),
        }


class Simulation:
    """One run of `hours` with `gpus` workers at `load`, the share of the GPUs that films alone would use.

    `failures` is the mean number of hours between two losses of a GPU; with `placed` False jobs are taken strictly in
    order, by the next free worker.
    """

    def __init__(
        self,
        gpus: int,
        load: float,
        *,
        hours: float = 4.0,
        mix: Sequence[Model] = MIX,
        failures: float = 500.0,
        placed: bool = True,
        seed: int = 0,
    ) -> None:
        self._random, self._mix, self._placed = random.Random(seed), mix, placed
        self._shares = [model.share for model in mix]
        self._end, self._mtbf = hours * 3600.0, failures * 3600.0
        mean = sum(model.share * model.film for model in mix) / sum(self._shares)
        self._gap = mean / (gpus * load)
        self._workers = [Worker() for _ in range(gpus)]
        self._idle = dict.fromkeys(range(gpus))
        #: By model: when the workers that make a film with it will be free, the soonest first; and those that are idle.
        self._ends: dict[str, list[tuple[float, int]]] = {model.name: [] for model in mix}
        self._warm: dict[str, dict[int, None]] = {model.name: {} for model in mix}
        self._lost: list[Job] = []
        self._queue: list[Job] = []
        self._events: list[tuple[float, int, str, int]] = []
        self._numbers = count()
        self.outcome = Outcome(seconds=gpus * self._end)

    def run(self) -> Outcome:
        """Runs to the end."""
        self._later(self._random.expovariate(1 / self._gap), "arrival")
        for worker in range(len(self._workers)):
            self._later(self._random.expovariate(1 / self._mtbf), "failure", worker)
        while self._events:
            now, number, what, worker = heapq.heappop(self._events)
            if now > self._end:
                break
            getattr(self, f"_{what}")(now, number, worker)
        for place in self._workers:
            if place.job is not None:  # what was done of the films that are not finished
                loading = min(place.loading, self._end - place.began)
                self.outcome.loading += loading
                self.outcome.films += self._end - place.began - loading
        return self.outcome

    def _later(self, at: float, what: str, worker: int = -1) -> int:
        number = next(self._numbers)
        heapq.heappush(self._events, (at, number, what, worker))
        return number

    def _arrival(self, now: float, number: int, worker: int) -> None:
        (model,) = self._random.choices(self._mix, self._shares)
        # Films differ: half to twice the usual time, in the same mean.
        film = model.film * self._random.uniform(0.5, 1.5)
        self._queue.append(Job(now, model, film))
        self._later(now + self._random.expovariate(1 / self._gap), "arrival")
        self._assign(now)

    def _finished(self, now: float, number: int, worker: int) -> None:
        place = self._workers[worker]
        if place.event != number:
            return  # the GPU was lost meanwhile
        assert place.job is not None and place.job.waited is not None
        self.outcome.films += now - place.began - place.loading
        self.outcome.loading += place.loading
        self.outcome.waits.append(place.job.waited)
        self._release(worker)
        self._assign(now)

    def _failure(self, now: float, number: int, worker: int) -> None:
        """A GPU is lost and replaced at once; its job returns when the lease ends, without the work since the last
        checkpoint.
        """
        place, job = self._workers[worker], self._workers[worker].job
        self.outcome.failures += 1
        if job is not None:
            done = max(0.0, now - place.began - place.loading)
            kept = max(0.0, done - CHECKPOINT / 2)
            self.outcome.films += kept
            self.outcome.loading += min(place.loading, now - place.began)
            self.outcome.lost += done - kept
            job.left -= kept
            self._lost.append(job)
            self._later(now + LEASE, "returned", len(self._lost) - 1)
            self._release(worker)
        self._warm.get(place.model, {}).pop(worker, None)
        place.model = ""
        self._later(now + self._random.expovariate(1 / self._mtbf), "failure", worker)
        self._assign(now)

    def _returned(self, now: float, number: int, index: int) -> None:
        self._queue.insert(0, self._lost[index])
        self._assign(now)

    def _look(self, now: float, number: int, worker: int) -> None:
        self._assign(now)

    def _release(self, worker: int) -> None:
        place = self._workers[worker]
        ends = self._ends[place.model]
        del ends[bisect_left(ends, (place.end, worker))]
        place.job, place.event = None, -1
        self._idle[worker] = self._warm[place.model][worker] = None

    def _assign(self, now: float) -> None:
        """Lets idle workers take jobs, until none wants one."""
        position, left = 0, Counter[str]()
        while self._idle and position < len(self._queue):
            job = self._queue[position]
            worker = self._taker(job, now, left[job.model.name])
            if worker is None:
                left[job.model.name] += 1
                position += 1
                continue
            del self._queue[position]
            self._start(worker, job, now)

    def _taker(self, job: Job, now: float, before: int) -> int | None:
        """The idle worker that takes a job: one that holds its model, or any other if the rule allows."""
        name, ends = job.model.name, self._ends[job.model.name]
        worker = next(iter(self._warm[name] or self._idle))
        if self._warm[name] or not self._placed:
            return worker
        if job.skipped is None:
            job.skipped = now
            if ends:
                self._later(now + job.model.load, "look")
        # The rule sees the one worker that counts, which spares it a list of all.
        free = [ends[before][0] - now] if before < len(ends) else []
        others = [Peer(frozenset({name}), load={name: job.model.load}, free=each) for each in free]
        # A nanosecond covers rounding of the sum that the event above was set to.
        waited = now - job.skipped + 1e-9
        return worker if takes(name, lambda: waited, Peer(frozenset()), others) else None

    def _start(self, worker: int, job: Job, now: float) -> None:
        place = self._workers[worker]
        del self._idle[worker]
        self._warm.get(place.model, {}).pop(worker, None)
        place.loading = 0.0 if place.model == job.model.name else job.model.load
        place.model, place.job, place.began = job.model.name, job, now
        if job.waited is None:
            job.waited = now - job.arrived + place.loading
        place.end = now + place.loading + job.left
        place.event = self._later(place.end, "finished", worker)
        insort(self._ends[place.model], (place.end, worker))


def table(rows: Sequence[dict[str, float]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    shown = [[f"{100 * row[n]:.1f} %" if n.endswith("of time") else f"{row[n]:.4g}" for n in names] for row in rows]
    lines = [names, ["---"] * len(names), *shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, action="append", help="number of GPUs; repeatable")
    parser.add_argument("--load", type=float, action="append", help="share of the GPUs that films use; repeatable")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--failures", type=float, default=500.0, help="hours between two losses of a GPU")
    parser.add_argument("--in-order", action="store_true", help="without warm placement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measured", action="store_true", help="run a real cluster here, and simulate the same films")
    parser.add_argument("--films", type=int, default=20, help="with --measured: films for each machine")
    parser.add_argument("--repeats", type=int, default=3, help="with --measured")
    given = parser.parse_args()
    if given.measured:
        from bench.cluster_measured import measure

        found = []
        for row in measure(given.films, given.repeats):
            print(json.dumps(row), file=sys.stdout if given.json else sys.stderr, flush=True)
            found.append(row)
        if not given.json:
            print(table(found))
        return
    how = {"hours": given.hours, "failures": given.failures, "placed": not given.in_order, "seed": given.seed}
    rows = [
        Simulation(gpus, load, **how).run().row(gpus, load)
        for gpus in given.gpus or SIZES
        for load in given.load or (0.5, 0.8)
    ]
    print(json.dumps(rows, indent=1) if given.json else table(rows))


if __name__ == "__main__":
    main()
