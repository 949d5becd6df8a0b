"""What must hold whatever was killed: nothing lost, nothing twice, nothing stuck, nothing half-made under a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.blocking import Blocking
from tests.crash.made import Twin

from flickbook.errors import FlickbookError
from flickbook.files import sha256
from flickbook.jobs.artifacts import CHECKPOINT, LOG, PREVIEW, PROGRESS, ArtifactStore
from flickbook.jobs.queue import STALLS
from flickbook.media.clip import sidecar_path
from flickbook.spec import Sidecar
from flickbook.store.base import Job, Query

_FILM = re.compile(r"film-\d+\.(?!safetensors)[a-z0-9]+(\.json)?")
#: The last latents, which are kept beside a film that can be continued from them.
_LATENTS = re.compile(r"film-\d+\.safetensors")
_OTHERS = {PROGRESS, PREVIEW, LOG, "watched"}


@dataclass
class Found:
    """What a look at a store and its files found: `faults`, each a line, and how the jobs ended."""

    faults: list[str] = field(default_factory=list)
    completed: int = 0
    went_on: int = 0
    given_up: int = 0
    failed: int = 0
    checkpoints: int = 0

    def add(self, other: Found) -> None:
        """Count what another look found too."""
        self.faults += other.faults
        for name in ("completed", "went_on", "given_up", "failed", "checkpoints"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def everything(
    store: Blocking,
    artifacts: ArtifactStore,
    asked: Mapping[str, str],
    twins: Mapping[str, Twin],
    killed: Mapping[str, int] | None = None,
    failures: frozenset[str] = frozenset(),
) -> Found:
    """Look at all jobs once nothing runs any more.

    `asked` are the ids that were acknowledged, with their Plans' keys; `killed` how often each job's worker died, and
    `failures` the codes that jobs may have failed with.
    """
    found = Found([f"the store is damaged: {line}" for line in store.check()])
    jobs = {job.id: job for job in store.find(Query(limit=1_000_000))}
    found.faults += [f"{id} is lost" for id in asked if id not in jobs]
    found.faults += [f"{id} was never asked for" for id in jobs if id not in asked]
    found.faults += [f"{id} has files and no job" for id in artifacts.ids() if id not in jobs]
    for job in jobs.values():
        if job.state == "completed":
            found.completed += 1
            found.faults += _whole(job, artifacts, twins[job.plan.key()])
            run = None if job.result is None else job.result.sidecar.run
            found.went_on += run is not None and any("resumed from" in note for note in run.notes)
        elif job.error_code == "worker_lost" and (killed or {}).get(job.id, 0) >= STALLS:
            found.given_up += 1
        elif job.state == "failed" and job.error_code in failures and job.error and "\n" not in job.error:
            found.failed += 1
        else:
            found.faults.append(f"{job.id} is {job.state}: {job.error_code} {job.error}")
        found.faults += _left(job, artifacts)
        # Killed after it was settled and before it was cleared up: it costs space, and nothing else.
        found.checkpoints += job.state == "completed" and artifacts.checkpoint(job.id).exists()
    return found


def _whole(job: Job, artifacts: ArtifactStore, twin: Twin) -> Iterator[str]:
    """What is wrong with the result of a completed job."""
    result = job.result
    if result is None or result.sidecar.recipe is None:
        yield f"{job.id} is completed without a result"
        return
    path = Path(result.path)
    if path != artifacts.film(job.id, job.attempt, path.suffix):
        yield f"{job.id} names {path.name}, which is not of its attempt {job.attempt}"
    if not path.is_file() or (path.stat().st_size, sha256(path)) != (result.bytes, result.sha256):
        yield f"{job.id} has another film than its row says"
    if result.sidecar.recipe.frames_sha256 != twin.frames:
        yield f"{job.id} has other frames than its uninterrupted twin"
    if result.sha256 != twin.file:
        yield f"{job.id} has another file than its uninterrupted twin"
    try:
        beside = Sidecar.from_json(sidecar_path(path).read_text(encoding="utf-8"))
        if beside != result.sidecar:
            yield f"{job.id} has another recipe beside its film than in its row"
    except (OSError, FlickbookError) as error:
        yield f"{job.id} has no recipe beside its film: {error}"


def _left(job: Job, artifacts: ArtifactStore) -> Iterator[str]:
    """Files of a job that is done which should not be there."""
    place = artifacts.of(job.id)
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    films = [name for name in names if _FILM.fullmatch(name)]
    if len(films) != (2 if job.state == "completed" else 0):
        yield f"{job.id} is {job.state} and has the films {films}"
    latents = [name for name in names if _LATENTS.fullmatch(name)]
    kept = [Path(job.result.path).with_suffix(".safetensors").name] if job.state == "completed" and job.result else []
    if latents != [name for name in kept if name in names]:
        yield f"{job.id} is {job.state} and has the latents {latents}"
    strange = [name for name in names if name not in {*films, *latents, *_OTHERS, CHECKPOINT}]
    if strange:
        yield f"{job.id} is {job.state} and has {strange}"
