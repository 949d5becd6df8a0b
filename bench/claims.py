"""Claims a second with few and with many queued jobs: `python -m bench.claims [--store URL] [--clients 64]`.

A fresh database for each depth of the queue gets so many jobs. Then clients, threads in a few processes with a
connection each, claim and complete jobs until `--claims` of them are done. At the end every job was claimed at most
once, and those that were not claimed are still queued. A client claims as a worker does: the first job of the queue if
it is alone (`claim`), or one of the first jobs after it looked at them, if it shares the store (`claim_more`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flickbook.jobs.backend import Backend
from flickbook.jobs.create import ordered
from flickbook.jobs.queue import completed
from flickbook.spec import Request
from flickbook.store.base import Job, Result, new_id

#: Jobs that are added at once, owners they belong to, and jobs that a worker looks at if there are 64 of them.
_TOGETHER = 1_000
_OWNERS = 20
_AMONG = 128
WAYS = ("claim", "claim_more")


def filled(backend: Backend, depth: int) -> None:
    """Adds so many queued jobs."""
    template = ordered(Request.of(prompt="a red circle moving left on a blue background", seed=1))
    for first in range(0, depth, _TOGETHER):
        some = range(first, min(depth, first + _TOGETHER))
        jobs = [template.model_copy(update={"id": new_id("job"), "owner": f"o{each % _OWNERS}"}) for each in some]
        backend.ask(backend.store.add(jobs))


def _claimed(backend: Backend, way: str, name: str) -> Job | None:
    if way == "claim":
        return backend.ask(backend.store.claim(name, 600.0))
    found = backend.ask(backend.store.claim_more(name, 600.0, lambda _: True, 1, _AMONG))
    return found[0] if found else None


def _clients(url: str, place: str, way: str, names: list[str], most: int, begin: Any, out: Any) -> None:
    """The clients of one process; each claims `most` jobs. Puts the claims with their times into `out`."""
    claims: list[tuple[str, int, float, float]] = []
    lock = threading.Lock()

    def client(name: str) -> None:
        with Backend.at(url, Path(place)) as backend:
            begin.wait()
            done = 0
            while done < most:
                sent = time.monotonic()
                job = _claimed(backend, way, name)
                if job is None:  # others were faster with every job that it looked at
                    continue
                got = time.monotonic()
                backend.ask(backend.store.settle(job.id, job.attempt, completed(job, Result(), 0.0)))
                done += 1
                with lock:
                    claims.append((job.id, job.attempt, got - sent, time.monotonic()))

    threads = [threading.Thread(target=client, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(claims)


def measure(url: str, place: str, depth: int, way: str, clients: int, processes: int, claims: int) -> dict[str, Any]:
    """Claims a second, the median time of a claim, and what was wrong, with `depth` queued jobs."""
    context = multiprocessing.get_context("spawn")
    with Backend.at(url, Path(place)) as backend:
        began = time.monotonic()
        filled(backend, depth)
        filling = time.monotonic() - began
        begin, out = context.Barrier(clients + 1), context.Queue()
        names = [f"client-{each}" for each in range(clients)]
        most = claims // clients
        started = [
            context.Process(target=_clients, args=(url, place, way, names[each::processes], most, begin, out))
            for each in range(processes)
        ]
        for process in started:
            process.start()
        begin.wait()
        began = time.monotonic()
        found = [claim for _ in started for claim in out.get()]
        for process in started:
            process.join()
        counts = backend.ask(backend.store.counts())
    seconds = max(at for *_, at in found) - began
    ids = [id for id, *_ in found]
    times = sorted(taken for _, _, taken, _ in found)
    return {
        "depth": depth,
        "way": way,
        "clients": clients,
        "claims": len(ids),
        "claims_a_second": len(ids) / seconds,
        "median_s": times[len(times) // 2],
        "p95_s": times[int(0.95 * len(times))],
        "filling_s": filling,
        "double": len(ids) - len(set(ids)) + sum(attempt != 1 for _, attempt, *_ in found),
        "lost": depth - counts["queued"] - counts["completed"],
    }


@contextmanager
def fresh(store: str) -> Iterator[tuple[str, str]]:
    """The address of an empty store, in a temporary directory or a new database on the server, and a directory."""
    with tempfile.TemporaryDirectory() as place:
        if not store:
            yield f"sqlite:///{place}/jobs.db", f"{place}/jobs"
            return
        name = f"bench-{uuid.uuid4().hex[:12]}"
        yield urlunsplit(urlsplit(store)._replace(path=f"/{name}")), f"{place}/jobs"
        from pymongo import MongoClient

        client: MongoClient[dict[str, object]] = MongoClient(store)
        client.drop_database(name)
        client.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="", help="a MongoDB server; SQLite in a temporary directory if unset")
    parser.add_argument("--depth", type=int, action="append", help="queued jobs; repeatable; 1,000 and 100,000")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--claims", type=int, default=640)
    given = parser.parse_args()
    if not given.clients <= given.claims <= min(given.depth or [1_000]):
        parser.error("--claims must be at least --clients and at most --depth")
    wrong = 0
    for way in given.way or WAYS:
        for depth in given.depth or (1_000, 100_000):
            with fresh(given.store) as (url, place):
                found = measure(url, place, depth, way, given.clients, given.processes, given.claims)
            print(json.dumps(found), flush=True)
            wrong += found["double"] + found["lost"]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
