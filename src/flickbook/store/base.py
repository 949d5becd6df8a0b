"""The Store protocol and its records: jobs, notes, rate-limit windows and secrets.

A store executes changes; the rules of the queue are in `flickbook.jobs.queue`. Each method is one atomic change,
which is durable when the method returns (on disk; for MongoDB, confirmed by a majority). Rows hold only strings,
integers and floats, so that every backend returns exactly what was stored. Times are seconds since 1970. Lease times
come from `Store.now`, which never jumps; all others come from the wall clock.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, Self, get_args

from pydantic import Field

from flickbook.records import Record
from flickbook.spec import Plan, Request, Sidecar

State = Literal["queued", "running", "paused", "completed", "failed", "cancelled", "expired"]
STATES: Final[tuple[State, ...]] = get_args(State)
#: Final states: a job leaves them only on request.
DONE: Final[tuple[State, ...]] = ("completed", "failed", "cancelled", "expired")
#: A draft stops after part of its steps; an extension is joined to the end of its parent film; a sequence is a film
#: whose pictures are generated one by one; a tune trains a LoRA, and its film is a sample of it.
Kind = Literal["film", "picture", "draft", "extension", "sequence", "shots", "tune"]
#: Who runs the job: workers claim jobs of the queue, a command runs its own.
Home = Literal["queue", "command"]
ID: Final = re.compile(r"[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{26}")
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
#: Kinds of notes that stores know: API keys and browser sessions.
KEY: Final = "key"
SESSION: Final = "session"

Value = str | int | float
Row = dict[str, Value]


def new_id(prefix: str) -> str:
    """Makes an unguessable id that sorts by time: `prefix`, "_", 48 bits of milliseconds, 80 random bits."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


class Result(Record):
    """The result of a job: path, size (bytes) and SHA-256 of a file, and its recipe and run.

    `preview` and `latents` are the result of a draft instead of a film; a film can be finished from `latents`.
    """

    path: str = ""
    bytes: Annotated[int, Field(ge=0)] = 0
    sha256: str = ""
    sidecar: Sidecar = Sidecar(recipe=None, run=None)


class Tuning(Record):
    """A LoRA training or fine-tuning: the dataset and the settings. The Plan of its job describes its samples.

    `clips` is the directory of the dataset. `output` is the directory of the result, "" for one of the job's own, in
    which the LoRA is called `name`.
    `config` holds the fields of `learn.tuning.config.TuneConfig` that are not at their defaults. A sample is made every
    `sample_every` updates, never if it is 0. `prior_prompts` is a file of prompts whose films shall stay as they are.
    """

    clips: str
    output: str = ""
    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    config: dict[str, bool | int | float | str] = {}
    sample_every: Annotated[int, Field(ge=0)] = 100
    prior_prompts: str = ""

    @property
    def full(self) -> bool:
        """Whether all weights of the denoising network are trained, and no LoRA."""
        return bool(self.config.get("full"))


class Job(Record):
    """A Plan in the store with its state and progress.

    `request` has the paths of the source files and LoRAs. `until` is the share of its steps after which a draft
    stops. `parent` is the job whose latents or film it continues. `leader` is the first of the jobs that run
    together with it. A command's job writes to `output`. `networks` are the files of its polish options by SHA-256.
    If a score is below its value in `thresholds`, another seed is tried, up to `retries` times.

    Jobs with a higher `priority` come first; among equals the `turn` decides, which is fair between owners, then the
    `position`. `attempt` counts claims and is the fencing token of the lease, which `worker` holds until
    `lease_until`. `stalls` counts attempts that got no further than `reached`, the share of the work that is done, 0
    to 1. `wanted` is what the runner must do at its next step. Unset times are 0. `seconds` is the device time of
    all attempts. `key` is derived from the Idempotency-Key and is unique per owner if not empty. `tuning` is what a
    tune trains. `remix_of` is the job that a remix was made from.
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
    tuning: Tuning | None = None
    remix_of: str = ""

    def to_row(self) -> Row:
        """Converts the job to strings, integers and floats: nested values become JSON, None becomes ""."""
        return {name: _flat(name, getattr(self, name)) for name in Job.model_fields}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Converts a row of `to_row` to a Job. Raises RequestError for an invalid row."""
        return cls.of(**{name: _deep(name, row[name]) for name in cls.model_fields if name in row})


_NESTED: Final[dict[str, Any]] = {"plan": Plan, "request": Request, "result": Result, "tuning": Tuning}


_TABLES: Final = frozenset({"networks", "thresholds"})


def flat(changes: Mapping[str, Any]) -> Row:
    """Converts changes of a Job's fields as `Job.to_row` does."""
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
    """A small record that is not a job: a key, a webhook, a delivery. `due` is when it must be processed; `body` is
    JSON.
    """

    kind: str
    id: str
    owner: str = ""
    due: float = 0.0
    body: str = "{}"

    def to_row(self) -> Row:
        """Converts the note to a row."""
        return self.model_dump() | {"due": float(self.due)}


@dataclass(frozen=True)
class Query:
    """A filter, an order and a limit for jobs: "new" is newest first, "old" oldest first, "queue" the order of
    execution.

    `after` is the id of the last job of the previous page in the same order (not for "queue"). `owner` None means
    all owners. `finished_since` selects jobs that finished at that time or later. `noted` selects jobs that have a
    note of this kind with their id. `text` selects jobs whose prompt contains it, ignoring case.
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
    """A database of jobs. Every method raises StoreError if the database fails."""

    #: A human-readable description: "SQLite 3.40.1, rollback journal".
    title: str

    async def open(self) -> None:
        """Connects and migrates the schema. Raises StoreError for a damaged store or a newer schema."""

    async def close(self) -> None:
        """Closes the connection. May be called twice."""

    async def now(self) -> float:
        """The clock of leases: close to the wall clock, shared by all users of the store, and without jumps."""

    async def add(self, jobs: Sequence[Job]) -> list[Job]:
        """Adds new jobs, all or none, and sets their `turn`, `position` and `created_at`.

        A job whose owner and `key` exist already is not added; the existing job is returned in its place.
        """

    async def get(self, id: str) -> Job | None:
        """Finds a job by id."""

    async def find(self, query: Query) -> list[Job]:
        """Finds jobs, at most `query.limit`."""

    async def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        """Claims the next job of the queue, or the queued or paused job `id`, with a lease of `seconds`.

        The claim sets `state` to running and `started_at` to now, increments `attempt` and `stalls`, and clears
        `wanted` and `expires_at`. Jobs past their `expires_at` are skipped. Returns None if there is no such job.
        """

    async def claim_more(
        self, worker: str, seconds: float, fits: Callable[[Job], bool], most: int, among: int | Collection[str]
    ) -> list[Job]:
        """Claims up to `most` queued jobs for which `fits` returns True, in queue order, each as `claim` does.

        Only the first `among` jobs of the queue are examined, or those with these ids. Later jobs get turns after the
        jobs that were claimed consecutively from the front, but not after those claimed past others. Each claim is a
        separate change.
        """

    async def renew(self, id: str, attempt: int, seconds: float, reached: float) -> Job | None:
        """Renews the lease of an attempt; if it `reached` further than ever before, `stalls` is reset.

        Returns None if this attempt no longer holds the lease: its worker must stop and discard its output.
        """

    async def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        """Ends an attempt with `changes`, including the new state. Returns None and changes nothing if the token is
        stale.

        With `lapsed` the caller is not the worker, and the attempt is ended only if its lease has expired.
        """

    async def change(self, id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        """Changes a job that is in one of `states`; otherwise returns None and changes nothing."""

    async def remove(self, id: str, states: Collection[State]) -> Job | None:
        """Deletes a job that is in one of `states` and returns it; otherwise returns None."""

    async def reorder(self, id: str, before: str | None) -> Job | None:
        """Moves a queued job before another one of its owner and priority, or after all of them if None.

        The places of the owner's jobs are redistributed among them, so jobs of other owners do not move. Returns None
        if one of the two is not queued.
        """

    async def lapsed(self, limit: int = 100) -> list[Job]:
        """Running jobs whose lease has expired, and waiting jobs past their `expires_at`."""

    async def counts(self, owner: str | None = None) -> dict[State, int]:
        """The number of jobs in each state, including 0."""

    async def spent(self, owner: str, since: float) -> float:
        """The total `seconds` of an owner's jobs that finished since then or are not finished."""

    async def put(self, note: Note) -> None:
        """Writes a note, replacing one of the same kind and id."""

    async def put_new(self, note: Note) -> Note | None:
        """Writes a note if none of its kind and id exists; returns the existing note, None if this one was written."""

    async def note(self, kind: str, id: str) -> Note | None:
        """Finds a note by kind and id."""

    async def notes(
        self, kind: str, owner: str | None = None, due: float | None = None, ids: Collection[str] | None = None
    ) -> list[Note]:
        """The notes of a kind sorted by id; with `due`, those due by then; with `ids`, those with these ids."""

    async def drop(self, kind: str, id: str) -> bool:
        """Deletes a note; returns whether it existed."""

    async def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        """Takes up to `amount` from a bucket that allows `limit` per `window` of seconds.

        Returns the amount taken, 0 or more, and the end of the window by `now`. A window begins with its first take.
        """

    async def protected(self) -> bool:
        """Whether an API key was ever created. Stays true if every key is lost or revoked, until `release`."""

    async def protect(self, id: str, name: str, revoked_at: float = 0.0) -> None:
        """Records that the key `id` was created, or when it was revoked, apart from the note that holds the key."""

    async def release(self) -> None:
        """Removes the record that keys were created. Does not remove any key."""

    async def secret(self, name: str) -> str:
        """A secret of 64 hexadecimal digits, created at first use."""

    async def keep(self) -> None:
        """Periodic maintenance while the store is open, such as a backup. May take a while."""

    async def check(self) -> list[str]:
        """Checks the store and returns its errors, one line each. May take a while."""
