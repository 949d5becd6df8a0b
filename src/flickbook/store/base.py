"""What every store keeps and does: jobs, notes, windows of limits and secrets.

A store executes; the rules of the queue stand in `flickbook.jobs.queue`. Each method is one atomic change, and has
reached the disk (for MongoDB a majority) when it returns. Rows hold text, whole numbers and floats only, so that every
backend gives back what it was given. Times are seconds since 1970; those of leases come from `Store.now`, which never
jumps, all others from the wall clock.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, Self

from pydantic import Field

from flickbook.spec import Plan, Record, Request, Sidecar

State = Literal["queued", "running", "paused", "completed", "failed", "cancelled", "expired"]
#: States that a job leaves only when somebody asks for it.
DONE: Final[tuple[State, ...]] = ("completed", "failed", "cancelled", "expired")
#: A draft stops on the way; an extension is joined behind the film that it goes on from; a sequence is a film of
#: pictures that are each made by themselves.
Kind = Literal["film", "picture", "draft", "extension", "sequence"]
#: Who runs it: workers take what waits in the queue, a command runs its own.
Home = Literal["queue", "command"]
ID: Final = re.compile(r"[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{26}")
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
#: Kinds of notes that stores know: API keys, and sessions of browsers.
KEY: Final = "key"
SESSION: Final = "session"

Value = str | int | float
Row = dict[str, Value]


def new_id(prefix: str) -> str:
    """A name that nobody can guess, and that sorts by time: `prefix`, "_", 48 bits of milliseconds, 80 of chance."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


class Result(Record):
    """What a job made: a file's path, size (bytes) and SHA-256, and the recipe and the run that stand beside it.

    `preview` and `latents` are what a draft leaves instead of a film, and `latents` what a film is finished from.
    """

    path: str = ""
    bytes: Annotated[int, Field(ge=0)] = 0
    sha256: str = ""
    sidecar: Sidecar = Sidecar(recipe=None, run=None)


class Job(Record):
    """A Plan in the store, and how far it is.

    `request` has the paths of what the film begins from and of its LoRAs; `until` is the share of its steps after which
    a draft stops; `parent` is the job whose latents or film it goes on from; `leader` the first of the jobs that run
    together with it. A command's job writes to `output`. `networks` are the files that polish it, by SHA-256;
    `thresholds` the scores below which another seed is tried, up to `retries` times.

    Those with a higher `priority` come first; among equals the `turn` decides, which is fair between owners, then the
    `position`. `attempt` counts claims and is the fencing token of the lease, which is `worker`'s until `lease_until`;
    `stalls` are attempts that got no further than `reached`, a share of the work from 0 to 1. `wanted` is what the
    runner is asked to do at its next step. Times are 0 where there is none. `seconds` is what all attempts took on the
    device. `key` is derived from the Idempotency-Key, unique for each owner where it is not empty.
    """

    id: str
    kind: Kind = "film"
    owner: str = ""
    state: State = "queued"
    plan: Plan
    request: Request
    precision: str = "auto"
    model_dir: str = ""
    until: float = 1.0
    parent: str = ""
    leader: str = ""
    home: Home = "queue"
    output: str = ""
    overwrite: Literal[0, 1] = 0
    networks: dict[str, str] = {}
    thresholds: dict[str, float] = {}
    retries: Annotated[int, Field(ge=0)] = 0
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    turn: float = 0.0
    position: float = 0.0
    attempt: Annotated[int, Field(ge=0)] = 0
    stalls: Annotated[int, Field(ge=0)] = 0
    reached: Annotated[float, Field(ge=0, le=1)] = 0.0
    worker: str = ""
    lease_until: float = 0.0
    wanted: Literal["", "pause", "cancel"] = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    expires_at: float = 0.0
    seconds: float = 0.0
    error_code: str = ""
    error: str = ""
    result: Result | None = None
    key: str = ""

    def to_row(self) -> Row:
        """The job as text, whole numbers and floats: what is nested as JSON, "" for None."""
        return {name: _flat(name, getattr(self, name)) for name in Job.model_fields}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The job that `to_row` gave. Raises RequestError for a row that is none."""
        return cls.of(**{name: _deep(name, row[name]) for name in cls.model_fields if name in row})


_NESTED: Final[dict[str, Any]] = {"plan": Plan, "request": Request, "result": Result}


_TABLES: Final = frozenset({"networks", "thresholds"})


def flat(changes: Mapping[str, Any]) -> Row:
    """Changes of a Job's fields, as `Job.to_row` has them."""
    return {name: _flat(name, value) for name, value in changes.items()}


def _flat(name: str, value: Any) -> Value:
    if name in _NESTED:
        return "" if value is None else str(value.to_json())
    if name in _TABLES:
        return json.dumps(value, sort_keys=True)
    return value if name not in _FLOATS else float(value)


_FLOATS: Final = frozenset(name for name, field in Job.model_fields.items() if field.annotation is float)


def _deep(name: str, value: Any) -> Any:
    if name in _NESTED:
        return None if value == "" else _NESTED[name].from_json(value)
    if name in _TABLES:
        return json.loads(value)
    return float(value) if name in _FLOATS else value


class Note(Record):
    """A small record that is not a job: a key, a webhook, a delivery. `due` is when it wants attention; `body` JSON."""

    kind: str
    id: str
    owner: str = ""
    due: float = 0.0
    body: str = "{}"

    def to_row(self) -> Row:
        """The note as a store keeps it."""
        return self.model_dump() | {"due": float(self.due)}


@dataclass(frozen=True)
class Query:
    """Which jobs, and in which order: "new" is newest first, "old" oldest first, "queue" as they will be run.

    `after` is the id of the last job of the page before, of the same order (not for "queue"); `owner` None means all.
    `finished_since` leaves out what did not finish then or later, `noted` what no note of this kind has the id of,
    `text` those whose prompt does not contain it, in small letters or large.
    """

    owner: str | None = None
    states: tuple[State, ...] = ()
    kinds: tuple[Kind, ...] = ()
    leader: str | None = None
    worker: str | None = None
    after: str | None = None
    finished_since: float = 0.0
    noted: str | None = None
    text: str = ""
    limit: int = 100
    order: Literal["new", "old", "queue"] = "new"


class Store(Protocol):
    """A place where jobs are kept. Every method raises StoreError where the place fails."""

    #: What it is, for people: "SQLite 3.40.1, rollback journal".
    title: str

    async def open(self) -> None:
        """Connect, and bring its schema up to date. Raises StoreError for a damaged or a newer one."""

    async def close(self) -> None:
        """Let go of it; may be called twice."""

    async def now(self) -> float:
        """The clock of leases: near the wall clock, the same for all who share the store, and it never jumps."""

    async def add(self, jobs: Sequence[Job]) -> list[Job]:
        """Keep new jobs, all or none, with `turn`, `position` and `created_at` set here.

        A job whose owner and `key` are there already is not added: the one that stands is given back in its place.
        """

    async def get(self, id: str) -> Job | None:
        """The job of this id."""

    async def find(self, query: Query) -> list[Job]:
        """Jobs, at most `query.limit`."""

    async def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        """Take the next queued job of the queue, or the queued or paused job `id`, under a lease of so many seconds.

        The job is running then, `started_at` now, with one more `attempt` and of `stalls`, nothing `wanted`, and it
        expires no more. A job that is past its `expires_at` is passed over. None if there is nothing to take.
        """

    async def claim_more(
        self, worker: str, seconds: float, fits: Callable[[Job], bool], most: int, among: int | Collection[str]
    ) -> list[Job]:
        """Take up to `most` queued jobs that `fits` says yes to, in the order of the queue, each as `claim` does.

        Only the first `among` of the queue are looked at, or those of these ids. Who comes next stands behind what was
        taken in one go from the front, and not behind what was taken past others. Each is one change of its own.
        """

    async def renew(self, id: str, attempt: int, seconds: float, reached: float) -> Job | None:
        """Keep the lease of an attempt; where it has `reached` further than ever before, its `stalls` are forgotten.

        None if the lease is not this attempt's any more: whoever worked under it must stop, and leave nothing.
        """

    async def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        """End an attempt with `changes`, among them its new state; None, and nothing changed, under a stale token.

        With `lapsed` it is ended by another than its worker, and only if its lease is over.
        """

    async def change(self, id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        """Change a job that is in one of `states`; None, and nothing changed, if it is in another."""

    async def remove(self, id: str, states: Collection[State]) -> Job | None:
        """Forget a job that is in one of `states`; what it was. None if it is in another."""

    async def reorder(self, id: str, before: str | None) -> Job | None:
        """Put a queued job in front of another of its owner and priority, or last of them for None.

        The places that its owner's jobs have are dealt out anew among them, so that nobody else's move. None if one of
        the two is not queued.
        """

    async def lapsed(self, limit: int = 100) -> list[Job]:
        """Running jobs whose lease is over, and waiting ones past their `expires_at`."""

    async def counts(self, owner: str | None = None) -> dict[State, int]:
        """How many jobs are in each state; states without any are 0."""

    async def spent(self, owner: str, since: float) -> float:
        """The `seconds` of an owner's jobs that finished since then, and of those not finished yet."""

    async def put(self, note: Note) -> None:
        """Keep a note, in the place of the one of its kind and id."""

    async def put_new(self, note: Note) -> Note | None:
        """Keep a note unless there is one of its kind and id; the one that stands, None if this one was kept."""

    async def note(self, kind: str, id: str) -> Note | None:
        """The note of this kind and id."""

    async def notes(
        self, kind: str, owner: str | None = None, due: float | None = None, ids: Collection[str] | None = None
    ) -> list[Note]:
        """The notes of a kind by their ids; with `due` those that want attention by then, with `ids` those of them."""

    async def drop(self, kind: str, id: str) -> bool:
        """Forget a note; whether there was one."""

    async def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        """Take up to `amount` of the `limit` that a bucket has in each `window` of seconds.

        What was given, 0 or more, and when (by `now`) the window ends, which began with the first that was taken.
        """

    async def protected(self) -> bool:
        """Whether an API key was ever made. It stays true if every key is lost or revoked, until `release`."""

    async def protect(self, id: str, name: str, revoked_at: float = 0.0) -> None:
        """Record that the key `id` was made, or when it was revoked, apart from the note that holds the key."""

    async def release(self) -> None:
        """Forget that keys were ever made. It does not remove any."""

    async def secret(self, name: str) -> str:
        """64 hexadecimal digits that are drawn once and kept."""

    async def keep(self) -> None:
        """What it does for itself now and then, while it is open: a copy for bad days. It may take a while."""

    async def check(self) -> list[str]:
        """What is wrong with the store, a line each; nothing for a sound one. It may take a while."""
