"""A job waits for a worker that holds its model, and no longer than loading the model takes."""

from __future__ import annotations

import json

from tests.jobs.conftest import Small
from tests.patience import until

from flickbook.engine import films
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers.affinity import Affinity, Peer, takes
from flickbook.jobs.workers.roster import NOTE
from flickbook.jobs.workers.worker import Worker
from flickbook.store.base import Note

WARM, COLD = Peer(frozenset({"wan"}), load={"wan": 20.0}), Peer(frozenset({"ltx"}))


def test_a_job_is_left_to_a_worker_that_has_its_model_for_as_long_as_loading_takes() -> None:
    assert takes("wan", lambda: 0.0, WARM, [WARM])
    assert takes("wan", lambda: 0.0, COLD, [COLD]), "nobody has it"
    assert not takes("wan", lambda: 19.0, COLD, [WARM])
    assert takes("wan", lambda: 20.0, COLD, [WARM])


def test_a_job_is_not_left_to_a_worker_that_is_busy_for_longer_than_loading_takes() -> None:
    busy = Peer(frozenset({"wan"}), load={"wan": 20.0}, free=300.0)
    assert takes("wan", lambda: 0.0, COLD, [busy])
    assert not takes("wan", lambda: 0.0, COLD, [busy, Peer(frozenset({"wan"}), free=5.0)])


def test_each_job_that_is_left_needs_a_worker_of_its_own() -> None:
    assert not takes("wan", lambda: 0.0, COLD, [WARM, WARM], before=1)
    assert takes("wan", lambda: 0.0, COLD, [WARM, WARM], before=2)


def test_a_job_that_does_not_fit_is_left_to_a_worker_with_more_memory() -> None:
    small, large = Peer(frozenset(), memory=8), Peer(frozenset(), memory=80)
    assert not takes("wan", lambda: 1e9, small, [large], lambda: False)
    assert takes("wan", lambda: 0.0, large, [small], lambda: False), "the largest one takes it and reports why it fails"
    assert takes("wan", lambda: 0.0, small, [large], lambda: True)


def test_a_dead_worker_is_forgotten(backend: Backend, small: Small) -> None:
    films.forget()
    body = {"count": 7, "models": ["builtin"], "memory": 0, "load": {"builtin": 1e6}, "free": 0.0}
    body["installed"] = ["builtin"]
    backend.ask(backend.store.put(Note(kind=NOTE, id="dead", body=json.dumps(body))))
    job = small()
    with Affinity(backend, "here", beat=0.02) as affinity:

        def takes_it() -> bool:
            affinity.begin()
            return affinity.takes(job)

        until(lambda: not takes_it())
        until(takes_it)
    assert backend.ask(backend.store.notes(NOTE)) == []


def test_workers_with_peers_run_all_jobs(backend: Backend, small: Small) -> None:
    jobs = backend.ask(backend.queue.submit([small(seed) for seed in (1, 2)]))
    assert Worker(backend, "one", peers=True).work(1) == 1
    assert Worker(backend, "two", peers=True).work(1) == 1
    assert {backend.ask(backend.queue.job(job.id)).state for job in jobs} == {"completed"}
