"""The Idempotency-Key of a POST request: the same key and body act once; another body is refused.

A key belongs to its owner and to one route with its path parameters. A note in the store binds it to the SHA-256 of the
first accepted request. The note is written by one atomic call, so that of two different requests only one wins, even
between server processes. Jobs carry a key derived from all of this. A retry after a crash therefore finds them even if
the server stopped before it stored their ids.

A key is kept as long as one of its jobs, and at least for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Final, Self

from fastapi import Depends, Header, Request
from starlette.datastructures import UploadFile

from flickbook.errors import FlickbookError, IdempotencyKeyReused, JobConflict, LimitReached
from flickbook.server.access.dependencies import admin, changer, creator
from flickbook.server.service import Caller, Service, service_of
from flickbook.server.submission.forms import form_of, is_form
from flickbook.store.base import Job, Note, Store

_KIND: Final = "idempotency"
#: Seconds for which a key is kept at least.
KEPT: Final = 86400.0


@dataclass(frozen=True)
class Idempotency:
    """The Idempotency-Key of one request: its `scope` (owner, route and key) and the `digest` of its body, in hex."""

    key: str
    owner: str
    scope: str
    digest: str

    @classmethod
    def of(cls, key: str, owner: str, action: str, fields: Any) -> Self:
        """Return the Idempotency of an action that is no route, with its fields as JSON."""
        return cls(key, owner, _sha256([owner, action, key]), _sha256(fields))

    async def jobs(self, service: Service) -> list[Job] | None:
        """Return the jobs of an equal request, in order; None if there was none or one of its jobs was deleted.

        Raises IdempotencyKeyReused if the key belongs to another request.
        """
        note = await service.store.note(_KIND, self.scope)
        if note is None:
            return None
        record = json.loads(note.body)
        found = [await service.store.get(id) for id in record["jobs"]]
        if record["digest"] != self.digest:
            # A key ends with the last of its jobs; it is kept while its jobs are not stored yet.
            if found and not any(found):
                await self.release(service)
                return None
            raise IdempotencyKeyReused(self.key)
        jobs = [job for job in found if job is not None]
        return jobs if jobs and len(jobs) == len(found) else None

    async def submit(self, service: Service, jobs: list[Job]) -> list[Job]:
        """Submit jobs, all or none, or return those of an equal request. Raises IdempotencyKeyReused, LimitReached."""
        fresh = await self.claim(service) is None
        keyed = [job.model_copy(update={"key": self._job_key(number)}) for number, job in enumerate(jobs)]
        try:
            found = await service.queue.submit(keyed)
        except LimitReached:
            # A refused request does not use up its key. After any other error the jobs may have been stored.
            if fresh:
                await self.release(service)
            raise
        await self.claim(service)  # an equal request that was refused meanwhile may have released it
        await service.store.put(self._note([job.id for job in found]))
        return found

    async def change(self, service: Service, id: str, change: Callable[[], Awaitable[Job]]) -> Job:
        """Change a job once: an equal request returns the job and changes nothing.

        Raises IdempotencyKeyReused, and all errors of `change`.
        """
        if before := await self.jobs(service):
            return before[0]
        fresh = await self.claim(service) is None
        try:
            job = await change()
        except JobConflict:
            # The first of two equal requests may have changed the job but not yet stored the note.
            if not fresh:
                return await service.queue.job(id)
            await self.release(service)
            raise
        except FlickbookError:
            if fresh:
                await self.release(service)
            raise
        await service.store.put(self._note([job.id]))
        return job

    async def claim(self, service: Service) -> float | None:
        """Bind the key to this request. Returns None if it was free, else when an equal request bound it (Unix time).

        Raises IdempotencyKeyReused.
        """
        existing = await service.store.put_new(self._note([]))
        if existing is None:
            return None
        if json.loads(existing.body)["digest"] != self.digest:
            raise IdempotencyKeyReused(self.key)
        return existing.due - KEPT

    async def release(self, service: Service) -> None:
        """Free the key, because its request was refused."""
        await service.store.drop(_KIND, self.scope)

    def id(self, prefix: str) -> str:
        """Return an id that is the same for equal requests."""
        return f"{prefix}_{_sha256([self.scope, self.digest])[:26]}"

    def _note(self, jobs: list[str]) -> Note:
        body = json.dumps({"digest": self.digest, "jobs": jobs})
        return Note(kind=_KIND, id=self.scope, owner=self.owner, due=float(int(time.time())) + KEPT, body=body)

    def _job_key(self, number: int) -> str:
        return f"{_sha256([self.scope, self.digest])}/{number}"


async def forget(store: Store) -> int:
    """Delete the expired keys whose jobs are all deleted, and return their number."""
    count = 0
    for note in await store.notes(_KIND, due=time.time()):
        if any([await store.get(id) for id in json.loads(note.body)["jobs"]]):
            await store.put(note.model_copy(update={"due": time.time() + KEPT}))
        else:
            count += await store.drop(_KIND, note.id)
    return count


_Key = Annotated[
    str | None,
    Header(
        alias="idempotency-key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description=(
            "The same key with the same body returns the same response; with another body it is refused with 422. "
            "A key belongs to its owner and this path. It is stored as long as the jobs created with it, and at least "
            "for a day."
        ),
    ),
]


def _key_of(admitted: Callable[..., Awaitable[Caller]]) -> Callable[..., Awaitable[Idempotency | None]]:
    """Return the dependency for routes whose caller `admitted` admits; the request is counted once."""
    caller_of = Depends(admitted)

    async def idempotency(request: Request, caller: Caller = caller_of, key: _Key = None) -> Idempotency | None:
        """Return the Idempotency of a request, None without the header. Raises IdempotencyKeyReused."""
        if key is None:
            return None
        scope = _sha256([caller.owner, request.method, request.url.path, key])
        found = Idempotency(key, caller.owner, scope, await _digest(request))
        await found.jobs(service_of(request))
        return found

    return idempotency


#: For routes of a Creator, a Changer and an Admin.
IdempotencyKey = Annotated[Idempotency | None, Depends(_key_of(creator))]
ChangeKey = Annotated[Idempotency | None, Depends(_key_of(changer))]
AdminKey = Annotated[Idempotency | None, Depends(_key_of(admin))]


async def changed(
    service: Service, idempotency: Idempotency | None, id: str, change: Callable[[], Awaitable[Job]]
) -> Job:
    """Change a job, once for each Idempotency-Key. Raises IdempotencyKeyReused, and all errors of `change`."""
    return await (change() if idempotency is None else idempotency.change(service, id, change))


async def _digest(request: Request) -> str:
    """Return the SHA-256 of a body, regardless of the order of fields and the boundary of parts."""
    if not is_form(request):
        return _sha256(_parsed(await request.body()))
    form = await form_of(request)
    parts: list[tuple[str, str, Any]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            # The suffix decides how a table is parsed, and the names of a dataset's files are its pairs.
            sent = value.filename or ""
            known = sent if name in ("files", "files[]") else PurePath(sent).suffix.lower()
            parts.append((name, known, await _file_digest(value)))
        else:
            parts.append((name, "", _parsed(value.encode("utf-8", "surrogatepass")) if name == "request" else value))
    return _sha256(sorted(parts, key=lambda part: part[0]))


async def _file_digest(upload: UploadFile) -> str:
    found = await asyncio.to_thread(lambda: hashlib.file_digest(upload.file, "sha256").hexdigest())  # type: ignore[arg-type]
    await upload.seek(0)
    return found


def _parsed(body: bytes) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON; the route refuses it then."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("latin-1")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
