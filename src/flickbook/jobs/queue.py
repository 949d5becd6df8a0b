"""The queue: states of a job, its transitions, and recovery of jobs whose worker died.

    queued ──claim──> running ──> completed | failed | cancelled
      │  ^              │ │
      │  └── released ──┘ └──pause──> paused ──resume──> queued
      └── cancel, expire                 └── cancel

A job is executed at least once and takes effect exactly once: a worker's result counts only when it is settled with
the token of its lease. If a process dies, a job of a command becomes paused; all other jobs return to the queue,
unless several attempts in a row made no progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from flickbook.errors import FlickbookError, JobConflict, JobNotFound, LimitReached, one_line
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.spec import Plan, Request
from flickbook.store.base import DONE, ID, Home, Job, Kind, Note, Query, Result, State, Store, new_id

#: Seconds: how long a lease lasts without a heartbeat, between two heartbeats, and between two checks for requests.
LEASE: Final = 30.0
BEAT: Final = 5.0
LOOK: Final = 0.15
#: Attempts in a row that may end without progress.
STALLS: Final = 3
#: The kind of the note that marks a job as a favourite; its id is the job's id.
FAVOURITE: Final = "favourite"
#: Maximum number of queued jobs.
DEPTH: Final = 100_000
_ANY: Final[tuple[State, ...]] = ("queued", "running", "paused", *DONE)
_RUNNING: Final[tuple[State, ...]] = ("running",)


def job(
    plan: Plan,
    request: Request,
    *,
    kind: Kind | None = None,
    home: Home = "queue",
    owner: str = "",
    id: str = "",
    **fields: Any,
) -> Job:
    """Creates a job for a Plan, with a new id by default; `fields` are other fields of the Job."""
    # Workers do not claim jobs of a command: the command runs them itself.
    state: State = "queued" if home == "queue" else "paused"
    usual: Kind = "picture" if plan.num_frames == 1 else "film"
    return Job.of(
        id=id or new_id("job"),
        kind=kind or usual,
        state=state,
        plan=plan,
        request=request,
        home=home,
        owner=owner,
        **fields,
    )


def completed(job: Job, result: Result, seconds: float = 0.0) -> dict[str, Any]:
    """The changes that complete a job."""
    return _ended(job, "completed", seconds) | {"result": result, "reached": 1.0, "error": "", "error_code": ""}


def failed(job: Job, error: BaseException | str, seconds: float = 0.0, code: str = "unexpected") -> dict[str, Any]:
    """The changes that fail a job with an error."""
    if isinstance(error, FlickbookError):
        code, text = error.code, str(error)
    elif isinstance(error, BaseException):
        text = one_line(f"unexpected {type(error).__name__}: {error}")
    else:
        text = one_line(error)
    return _ended(job, "failed", seconds) | {"error_code": code, "error": text}


def stopped(job: Job, seconds: float = 0.0) -> dict[str, Any]:
    """The changes for a job whose runner stopped it: as requested, or the default for its home."""
    if job.wanted == "cancel":
        return _ended(job, "cancelled", seconds)
    state: State = "paused" if job.wanted == "pause" or job.home == "command" else "queued"
    # Stopping on request does not count as an attempt without progress.
    return _interrupted(job, state, seconds) | {"stalls": max(0, job.stalls - 1)}


def orphaned(job: Job, reason: str = "its worker process died") -> dict[str, Any]:
    """The changes for a running job whose lease expired."""
    if job.wanted == "cancel":
        return _ended(job, "cancelled")
    if job.wanted == "pause" or job.home == "command":
        return _interrupted(job, "paused")
    if job.stalls >= STALLS:
        why = f"{one_line(reason)}; {job.stalls} attempts in a row made no progress"
        return failed(job, why, code="worker_lost")
    return _interrupted(job, "queued") | {"error": one_line(reason)}


def _ended(job: Job, state: State, seconds: float = 0.0) -> dict[str, Any]:
    return _freed(job, state, seconds) | {"finished_at": time.time()}


def _interrupted(job: Job, state: State, seconds: float = 0.0) -> dict[str, Any]:
    """The changes for a job that continues later. A request that arrives meanwhile is kept and handled afterwards."""
    changes = _freed(job, state, seconds)
    del changes["wanted"]
    return changes


def _freed(job: Job, state: State, seconds: float = 0.0) -> dict[str, Any]:
    return {"state": state, "worker": "", "lease_until": 0.0, "wanted": "", "seconds": job.seconds + seconds}


class Queue:
    """The jobs of a store and their files, as used by all interfaces. `owner` None gives access to all jobs."""

    def __init__(self, store: Store, artifacts: ArtifactStore) -> None:
        self.store, self.artifacts = store, artifacts

    async def submit(self, jobs: Sequence[Job], depth: int = DEPTH) -> list[Job]:
        """Adds new jobs. If an owner used a job's `key` before, the existing job is returned. Raises LimitReached."""
        counts = await self.store.counts()
        if counts["queued"] + len(jobs) > depth:
            limit = f"{counts['queued']} jobs are queued, the limit is {depth}"
            raise LimitReached("queue", len(jobs), limit, "send the request again when some are done", 30.0)
        return await self.store.add(jobs)

    async def job(self, id: str, owner: str | None = None) -> Job:
        """Finds a job by id. Raises JobNotFound, also for a job of another owner."""
        found = await self.store.get(id) if ID.fullmatch(id) else None
        if found is None or owner not in (None, found.owner):
            raise JobNotFound(id)
        return found

    async def cancel(self, id: str, owner: str | None = None) -> Job:
        """Cancels a job: at once if it waits, at its next step if it runs. Raises JobConflict if it has ended."""
        return await self._ask(id, owner, "cancel", "cancelled", ("queued", "paused"))

    async def pause(self, id: str, owner: str | None = None) -> Job:
        """Pauses a job; it can be resumed later."""
        return await self._ask(id, owner, "pause", "paused", ("queued",))

    async def _ask(self, id: str, owner: str | None, wish: str, done: State, waiting: tuple[State, ...]) -> Job:
        """Changes a waiting job now, or asks the runner of a running job to stop. Retries when the state changes in
        between.
        """
        while True:
            job = await self.job(id, owner)
            states: tuple[State, ...] = (job.state,)
            if job.state in waiting:
                changes = _ended(job, done) if done in DONE else _freed(job, done)
                found = await self.store.change(id, states, changes)
            elif job.state == "running":
                if job.wanted in (wish, "cancel"):
                    return job
                found = await self.store.change(id, _RUNNING, {"wanted": wish})
            elif job.state == done:
                return job
            else:
                raise JobConflict(id, job.state, done, f"`flickbook jobs show {id}` shows details")
            if found is not None:
                return found

    async def resume(self, id: str, owner: str | None = None) -> Job:
        """Puts a paused job back into the queue, at its old place. `jobs resume` runs a command's job itself."""
        return await self._move(id, owner, ("paused",), "resumed", {"state": "queued", "stalls": 0, "wanted": ""})

    async def retry(self, id: str, owner: str | None = None) -> Job:
        """Puts a failed, cancelled or expired job back into the queue; it continues from its last checkpoint."""
        again = {"state": "queued", "stalls": 0, "error": "", "error_code": "", "finished_at": 0.0, "expires_at": 0.0}
        return await self._move(id, owner, ("failed", "cancelled", "expired"), "retried", again)

    async def _move(
        self, id: str, owner: str | None, states: tuple[State, ...], wish: str, changes: Mapping[str, Any]
    ) -> Job:
        job = await self.job(id, owner)
        if job.home == "command" and changes.get("state") == "queued":
            changes = {**changes, "state": "paused"}  # run by its command, not by a worker
        found = await self.store.change(id, states, changes)
        if found is None:
            job = await self.job(id, owner)
            raise JobConflict(id, job.state, wish, f"`flickbook jobs show {id}` shows details")
        return found

    async def reorder(self, id: str, before: str | None = None, owner: str | None = None) -> Job:
        """Moves a queued job before another one of its owner, or last. Raises JobConflict unless both are queued."""
        job = await self.job(id, owner)
        other = None if before is None else await self.job(before, owner)
        if other is not None and (other.owner, other.priority) != (job.owner, job.priority):
            raise JobConflict(id, job.state, f"moved before {before}", "choose a job of the same owner and priority")
        found = await self.store.reorder(id, before)
        if found is None:
            states = [each.state for each in (job, other) if each is not None and each.state != "queued"]
            raise JobConflict(id, states[0] if states else "moving", "reordered", "only queued jobs can be moved")
        return found

    async def prioritise(self, id: str, priority: int, owner: str | None = None) -> Job:
        """Sets the priority of a waiting job, -100 to 100; higher priorities run first."""
        job = await self.job(id, owner)
        found = await self.store.change(id, ("queued", "paused"), {"priority": priority})
        if found is None:
            raise JobConflict(id, job.state, "given a priority", "only queued and paused jobs have a priority")
        return found

    async def favour(self, id: str, favourite: bool, owner: str | None = None) -> Job:
        """Marks or unmarks a job as a favourite."""
        job = await self.job(id, owner)
        if not favourite:
            await self.store.drop(FAVOURITE, id)
            return job
        await self.store.put(Note(kind=FAVOURITE, id=id, owner=job.owner))
        try:
            return await self.job(id, owner)
        except JobNotFound:  # removed by another caller meanwhile
            await self.store.drop(FAVOURITE, id)
            raise

    async def favourites(self, jobs: Sequence[Job]) -> set[str]:
        """The ids of the favourites among `jobs`, in one query."""
        if not jobs:
            return set()
        return {note.id for note in await self.store.notes(FAVOURITE, ids=[job.id for job in jobs])}

    async def remove(self, id: str, owner: str | None = None, patience: float = 30.0) -> Job:
        """Deletes a job and its files; a running job is cancelled first. Raises JobNotFound."""
        until = time.monotonic() + patience
        while True:
            job = await self.job(id, owner)
            if job.state not in DONE:
                with suppress(JobConflict):  # it ended between the two queries
                    job = await self.cancel(id, owner)
            found = await self.store.remove(id, DONE)
            if found is not None:
                await self.store.drop(FAVOURITE, id)
                await asyncio.to_thread(self.artifacts.clear, id)
                return found
            if time.monotonic() > until:
                raise JobConflict(id, job.state, "removed", "its worker does not respond; try again")
            await asyncio.sleep(LOOK / 3)

    async def release(self, job: Job, seconds: float = 0.0) -> Job | None:
        """Ends an attempt that its runner stops, with the newest request; None if the token is stale."""
        found = await self.store.settle(job.id, job.attempt, stopped(job, seconds))
        return None if found is None else await self._apply_request(found)

    async def _apply_request(self, job: Job) -> Job | None:
        """Handles a request that arrived while a job was released; None if the job was removed."""
        try:
            if job.state in ("queued", "paused") and job.wanted == "cancel":
                return await self.cancel(job.id)
            if job.state == "queued" and job.wanted == "pause":
                return await self.pause(job.id)
        except (JobConflict, JobNotFound):  # another caller was faster
            return await self.store.get(job.id)
        return job

    async def recover(self) -> list[Job]:
        """Recovers jobs whose lease expired and expires jobs whose time is over; returns the changed jobs."""
        found = []
        for job in await self.store.lapsed():
            if job.state == "running":
                changed = await self.store.settle(job.id, job.attempt, orphaned(job), lapsed=True)
            else:
                changed = await self.store.change(job.id, (job.state,), _ended(job, "expired"))
            found.append(await self._recovered(changed))
        return [job for job in found if job is not None]

    async def _recovered(self, job: Job | None) -> Job | None:
        """Handles a request for a dead worker's job, and removes its files if no later attempt will; None stays."""
        if job is not None and job.state in DONE:
            self.artifacts.tidy(job.id, job.attempt + 1)
        return None if job is None else await self._apply_request(job)

    async def release_jobs_of(self, worker: str, reason: str) -> list[Job]:
        """Releases the jobs of a worker that is known to be dead, before its lease expires."""
        found = []
        for job in await self.store.find(Query(states=_RUNNING, worker=worker)):
            if job.worker == worker:
                changed = await self.store.settle(job.id, job.attempt, orphaned(job, reason))
                found.append(await self._recovered(changed))
        return [job for job in found if job is not None]

    async def delete_old(self, keep: float, most_bytes: int | None = None) -> list[Job]:
        """Deletes jobs that ended more than `keep` seconds ago, then the oldest until the files take at most
        `most_bytes`.

        Favourites are kept regardless of age, and are the last to be deleted for space.
        """
        deleted: list[Job] = []
        favourites = {note.id for note in await self.store.notes(FAVOURITE)}
        done = await self.store.find(Query(states=DONE, order="old", limit=1_000_000))
        done.sort(key=lambda job: job.id in favourites)
        size = await asyncio.to_thread(self.artifacts.size) if most_bytes is not None else 0
        for job in done:
            old = keep > 0 and job.finished_at < time.time() - keep and job.id not in favourites
            if not old and (most_bytes is None or size <= most_bytes):
                continue
            found = await self.store.remove(job.id, DONE)
            if found is not None:
                await self.store.drop(FAVOURITE, job.id)
                size -= await asyncio.to_thread(self.artifacts.clear, job.id)
                deleted.append(found)
        return deleted


def states(names: Sequence[str]) -> tuple[State, ...]:
    """Converts names to states. Raises RequestError, the parent of JobConflict, for an unknown name."""
    from flickbook.errors import RequestError

    for name in names:
        if name not in _ANY:
            raise RequestError("state", name, "no such state", f"choose {', '.join(_ANY)}")
    return tuple(each for each in _ANY if each in names)
