"""Webhooks: notify endpoints of finished jobs, in the Standard-Webhooks format.

Nothing depends on a process staying alive. Jobs that finished since the last check are queried from the store. Each
delivery is a note whose id is computed from the event, so it is created only once however often the event is found.
It is kept until the receiver accepts it or a day has passed. A receiver may get the same delivery twice, with the
same id.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field

from flickbook.errors import FlickbookError, LimitReached, RequestError, one_line
from flickbook.jobs import safe_http
from flickbook.records import Record
from flickbook.store.base import DONE, Job, Note, Query, Store, new_id

Event = Literal["job.completed", "job.failed", "job.cancelled", "job.expired", "video.completed", "video.failed"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)
#: Maximum endpoints per owner.
LIMIT: Final = 20
#: Seconds before each retry; after the last one the delivery is given up. Together about a day.
BACKOFF: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
#: Seconds: between two checks, how far a check reaches back, and how long finished deliveries are kept.
_LOOK: Final = 1.0
_OVERLAP: Final = 120.0
_KEPT: Final = 86_400.0
#: Seconds after which the time of the last check is saved even if nothing happened.
_NOTED: Final = 600.0
_AT_ONCE: Final = 8
_PAGE: Final = 500
_CLAIM: Final = 60.0
_ENDPOINT, _DELIVERY, _CURSOR = "webhook", "delivery", "cursor"

logger = logging.getLogger(__name__)


class Endpoint(Record):
    """A URL to notify and the events to notify it of. Its secret is derived, and not stored."""

    id: str
    owner: str = ""
    url: str
    name: str = ""
    events: Annotated[tuple[Event, ...], Field(min_length=1)]
    created_at: float

    def note(self) -> Note:
        """The endpoint as a note of the store."""
        return Note(kind=_ENDPOINT, id=self.id, owner=self.owner, body=self.to_json())


class Delivery(Record):
    """One delivery of an event: `body` is the request body, `status` the last response status, 0 for none."""

    id: str
    owner: str = ""
    endpoint: str
    event: Event
    body: str
    state: Literal["waiting", "delivered", "given_up"] = "waiting"
    attempt: int = 0
    status: int = 0
    error: str = ""
    created_at: float
    due: float

    def note(self) -> Note:
        """The delivery as a note of the store."""
        return Note(kind=_DELIVERY, id=self.id, owner=self.owner, due=self.due, body=self.to_json())


def events_of(job: Job) -> tuple[Event, ...]:
    """The events of a finished job."""
    if job.state not in DONE:
        return ()
    events: list[Event] = [each for each in EVENTS if each == f"job.{job.state}"]
    if job.kind in ("film", "extension"):
        events += [each for each in EVENTS if each == f"video.{job.state}"]
    return tuple(events)


def signature(secret: str, id: str, timestamp: int, body: str) -> str:
    """The webhook-signature header: "v1," and the HMAC-SHA256 of "id.timestamp.body" in base 64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode("ascii")


class Webhooks:
    """The endpoints in a store, and their sender. `hosts` are the allowed hosts; without any, nothing is sent."""

    def __init__(self, store: Store, hosts: Sequence[str] = ()) -> None:
        self.store, self.hosts = store, tuple(hosts)
        self._since, self._noted = 0.0, 0.0
        self._known: dict[str, float] = {}

    async def create(
        self, owner: str, url: str, events: Sequence[Event], name: str = "", id: str = ""
    ) -> tuple[Endpoint, str]:
        """Creates an endpoint and returns it with its secret; if `id` exists already, returns that endpoint.

        Raises LimitReached, and RequestError for a URL that is not allowed.
        """
        if id and (standing := await self.endpoint(id, owner)) is not None:
            return standing, await self.secret(standing)
        safe_http.target(url, self.hosts)
        if len(await self.endpoints(owner)) >= LIMIT:
            raise LimitReached("url", url, f"there are {LIMIT} webhooks already", "remove one", 60.0)
        chosen = tuple(each for each in EVENTS if each in events)
        created = Endpoint.of(
            id=id or new_id("whk"), owner=owner, url=url, name=name, events=chosen, created_at=round(time.time(), 3)
        )
        # Of two equal concurrent requests, both return the endpoint that was stored first.
        kept = await self.store.put_new(created.note())
        created = created if kept is None else Endpoint.from_json(kept.body)
        return created, await self.secret(created)

    async def endpoints(self, owner: str | None) -> list[Endpoint]:
        """The endpoints of an owner, or of all."""
        return [Endpoint.from_json(note.body) for note in await self.store.notes(_ENDPOINT, owner)]

    async def endpoint(self, id: str, owner: str | None) -> Endpoint | None:
        """Finds an endpoint by id; None for one of another owner."""
        note = await self.store.note(_ENDPOINT, id)
        return None if note is None or owner not in (None, note.owner) else Endpoint.from_json(note.body)

    async def remove(self, id: str) -> bool:
        """Removes an endpoint; its pending deliveries are dropped when they are due."""
        return await self.store.drop(_ENDPOINT, id)

    async def secret(self, endpoint: Endpoint) -> str:
        """The signing secret of an endpoint: whsec_ and 32 bytes in base 64."""
        key = bytes.fromhex(await self.store.secret("webhooks"))
        secret = hmac.digest(key, endpoint.id.encode("ascii"), hashlib.sha256)
        return "whsec_" + base64.b64encode(secret).decode("ascii")

    async def deliveries(self, endpoint: Endpoint, limit: int = 100) -> list[Delivery]:
        """The deliveries of an endpoint, sent and pending, newest first."""
        notes = await self.store.notes(_DELIVERY, endpoint.owner)
        found = [Delivery.from_json(note.body) for note in notes]
        mine = [each for each in found if each.endpoint == endpoint.id]
        return sorted(mine, key=lambda each: each.created_at, reverse=True)[:limit]

    async def run(self) -> None:
        """Finds and sends deliveries until cancelled. Does nothing if no hosts are allowed."""
        while self.hosts:
            try:
                await self.find()
                await self.send()
            except FlickbookError as error:
                logger.warning("webhooks are delayed: %s", error)
            await asyncio.sleep(_LOOK)

    async def find(self) -> int:
        """Creates deliveries for jobs that finished since the last check; returns how many are new."""
        endpoints = await self.endpoints(None)
        if not endpoints:
            return 0
        looked, new = time.time(), 0
        since = max(await self._cursor(), min(each.created_at for each in endpoints)) - _OVERLAP
        for owner in {each.owner for each in endpoints}:
            mine = [each for each in endpoints if each.owner == owner]
            async for job in self._ended(owner, since):
                new += await self._note(job, mine)
        self._since = looked
        self._known = {id: at for id, at in self._known.items() if at > looked - 2 * _OVERLAP}
        if new or looked - self._noted > _NOTED:
            await self.store.put(Note(kind=_CURSOR, id="webhooks", body=json.dumps({"since": looked})))
            self._noted = looked
        return new

    async def _ended(self, owner: str, since: float) -> AsyncIterator[Job]:
        """An owner's jobs that finished since a time."""
        after: str | None = None
        while True:
            query = Query(owner, DONE, finished_since=since, after=after, limit=_PAGE, order="old")
            page = await self.store.find(query)
            for job in page:
                yield job
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _cursor(self) -> float:
        if not self._since:
            note = await self.store.note(_CURSOR, "webhooks")
            self._since = 0.0 if note is None else float(json.loads(note.body)["since"])
        return self._since

    async def _note(self, job: Job, endpoints: Sequence[Endpoint]) -> int:
        """Creates the missing deliveries of a finished job; returns how many are new."""
        new = 0
        for endpoint in endpoints:
            if job.finished_at < endpoint.created_at:
                continue
            for event in events_of(job):
                if event not in endpoint.events:
                    continue
                delivery = _delivery(job, endpoint, event)
                if delivery.id in self._known:
                    continue
                if await self.store.note(_DELIVERY, delivery.id) is None:
                    await self.store.put(delivery.note())
                    new += 1
                self._known[delivery.id] = time.time()
        return new

    async def send(self) -> int:
        """Sends the deliveries that are due; returns how many were accepted."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(note: Note) -> bool:
            async with gate:
                return await self._send(Delivery.from_json(note.body))

        due = await self.store.notes(_DELIVERY, due=time.time())
        return sum(await asyncio.gather(*(one(note) for note in due)))

    async def _send(self, delivery: Delivery) -> bool:
        note = await self.store.note(_ENDPOINT, delivery.endpoint)
        if delivery.state != "waiting" or note is None:
            await self.store.drop(_DELIVERY, delivery.id)
            return False
        # Of several servers on one store, only one sends.
        claimed, _ = await self.store.take(f"{delivery.id}:{delivery.attempt}", 1, 1, _CLAIM)
        if not claimed:
            return False
        endpoint = Endpoint.from_json(note.body)
        status, error = await self._deliver(endpoint, delivery)
        changes: dict[str, Any] = {"status": status, "error": error, "attempt": delivery.attempt + 1}
        good = 200 <= status < 300
        if good or delivery.attempt >= len(BACKOFF) or status == 410:
            changes |= {"state": "delivered" if good else "given_up", "due": time.time() + _KEPT}
        else:
            # Jitter, so that a receiver that comes back does not get all retries at once.
            changes["due"] = time.time() + BACKOFF[delivery.attempt] * random.uniform(0.9, 1.1)
        await self.store.put(delivery.model_copy(update=changes).note())
        return good

    async def _deliver(self, endpoint: Endpoint, delivery: Delivery) -> tuple[int, str]:
        """Sends a delivery; returns the response status, 0 for none, and an error message."""
        stamp = int(time.time())
        signed = signature(await self.secret(endpoint), delivery.id, stamp, delivery.body)
        headers = {"webhook-id": delivery.id, "webhook-timestamp": str(stamp), "webhook-signature": signed}
        try:
            # Check again, as the allowed hosts may have changed.
            to = safe_http.target(endpoint.url, self.hosts)
            status = await safe_http.post(to, delivery.body.encode("utf-8"), headers)
        except (OSError, ValueError, RequestError) as error:
            return 0, one_line(str(error) or type(error).__name__)[:200]
        return status, "" if 200 <= status < 300 else f"responded with status {status}"


def _delivery(job: Job, endpoint: Endpoint, event: Event) -> Delivery:
    """The delivery of a job's event to an endpoint; the id is the same each time for the same event."""
    end = f"{endpoint.id} {job.id} {job.attempt} {job.finished_at:.6f} {event}"
    digest = hashlib.sha256(end.encode("ascii")).hexdigest()[:32]
    subject = job.id.replace("job_", "video_", 1) if event.startswith("video.") else job.id
    head = {"id": f"evt_{digest}", "object": "event", "created_at": int(job.finished_at), "type": event}
    body = json.dumps({**head, "data": {"id": subject}}, separators=(",", ":"))
    now = round(time.time(), 3)
    return Delivery.of(
        id=f"msg_{digest}", owner=job.owner, endpoint=endpoint.id, event=event, body=body, created_at=now, due=now
    )
