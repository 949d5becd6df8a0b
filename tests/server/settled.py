"""Jobs that are done without a worker process: claimed, made by the engine and settled here, as a worker does it."""

from __future__ import annotations

from tests.server.live import Live

from flickbook import formats
from flickbook.engine.films import films, run_options_of
from flickbook.files import sha256
from flickbook.jobs import queue
from flickbook.jobs.workers.output import latents_path
from flickbook.spec import Sidecar
from flickbook.store.base import Job, Result

#: What makes a film of the built-in model in a moment.
QUICK = {"prompt": "a red circle moving left", "num_inference_steps": 2, "num_frames": 4, "seed": 7}


def claimed(service: Live, id: str) -> Job:
    """The job, running under a lease."""
    found = service.ask(service.service.store.claim("a test", 60.0, id))
    assert found is not None
    return found


def settled(service: Live, id: str) -> Job:
    """The job with its film."""
    job = claimed(service, id)
    artifacts = service.service.artifacts
    artifacts.made(id)
    path = artifacts.film(id, job.attempt, formats.FORMS[job.plan.container].suffixes[0])
    clip = next(films([job.plan], run_options_of(job.plan, job.request)))
    clip.save(path, overwrite=True)
    if clip.latents is not None:
        latents_path(path).write_bytes(clip.latents)
    sidecar = Sidecar(recipe=clip.recipe, run=clip.run)
    result = Result(path=str(path), bytes=path.stat().st_size, sha256=sha256(path), sidecar=sidecar)
    found = service.ask(service.service.store.settle(id, job.attempt, queue.completed(job, result, 1.0)))
    assert found is not None
    return found


def failed(service: Live, id: str, why: str = "out of luck") -> Job:
    """The job, failed."""
    job = claimed(service, id)
    found = service.ask(service.service.store.settle(id, job.attempt, queue.failed(job, why)))
    assert found is not None
    return found
