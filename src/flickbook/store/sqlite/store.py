"""Jobs in one SQLite file: the store that needs no server.

Every change is one transaction, which is on disk when it returns. Each row carries a seal, which is verified on
every read. See `database` for how processes share the file, `backup` and `repair` for backups and repair.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from flickbook.errors import RequestError, StoreError
from flickbook.store.base import STATES, Job, Note, Query, Row, State, flat
from flickbook.store.sqlite import backup, key_record
from flickbook.store.sqlite.checksums import BUCKETS, JOBS, MARKS, NOTES, drawn
from flickbook.store.sqlite.clock import Clocks
from flickbook.store.sqlite.database import REPAIR, Connect, Database
from flickbook.store.sqlite.migrations import migrate
from flickbook.store.sqlite.query import compile_query

T = TypeVar("T")
logger = logging.getLogger(__name__)
#: Passes ids as one JSON value, because a statement takes a limited number of values.
_LISTED: Final = "id IN (SELECT value FROM json_each(?))"
#: A job that has not expired.
_DUE: Final = "(expires_at = 0 OR expires_at > ?)"
#: Seconds after which the backup is renewed when the store is opened.
DAY: Final = 86400.0


class SqliteStore:
    """The Store in the file `path`, which is created when first opened."""

    def __init__(
        self,
        path: Path,
        *,
        clocks: Clocks | None = None,
        patience: float = 10.0,
        connect: Connect = sqlite3.connect,
    ) -> None:
        self._db = Database(path, patience, connect)
        self.path = self._db.path
        journal = {"persist": "rollback journal", "wal": "write-ahead log"}[self._db.journal]
        self.title = f"SQLite {sqlite3.sqlite_version}, {journal}"
        self._clocks = clocks or Clocks()
        self._offset: float | None = None
        self._pid = 0
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def open(self) -> None:
        await self._off("write", self._open)

    def _open(self) -> None:
        with self._db.turn():
            if not self.path.exists():
                backup.refuse_remains(self.path)
                backup.create(self._db)
            self._db.use(lambda db: migrate(db, self.path))
            self._offset = self._db.change(self._meet_boot)
            try:
                self._db.change(lambda db: key_record.adopt(db, self.path))
            except StoreError as error:
                if error.remedy != REPAIR:
                    raise
                # Damage to keys is reported when they are used: commands that need none still work.
                logger.warning("the record of keys could not be completed: %s", error)
        try:
            self._keep()
        except StoreError as error:
            if error.remedy == REPAIR:
                raise
            logger.warning("no backup today: %s", error)

    async def keep(self) -> None:
        await self._off("read", self._keep)

    def _keep(self) -> None:
        """Renews a backup that is older than a day."""
        if backup.age(backup.backup_of(self.path), self._clocks.wall()) > DAY:
            with self._db.turn():
                self._db.use(lambda db: backup.copy(db, backup.backup_of(self.path)))

    async def close(self) -> None:
        if self._pid == os.getpid():
            await self._off("write", self._db.close)
            for each in self._threads.values():
                each.shutdown(wait=False)
        self._threads = {}

    async def backup(self, path: Path) -> None:
        """Writes a copy of the store to `path` atomically."""
        await self._off("read", lambda: self._db.use(lambda db: backup.copy(db, path)))

    async def _off(self, which: str, work: Callable[[], T]) -> T:
        """Runs `work` in a thread: one thread writes, and may wait for the lock; another one reads."""
        if self._pid != os.getpid():  # threads do not survive a fork
            self._pid, self._threads = os.getpid(), {}
        if which not in self._threads:
            self._threads[which] = ThreadPoolExecutor(1, thread_name_prefix=f"store-{which}")
        return await asyncio.get_running_loop().run_in_executor(self._threads[which], work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._off("read", lambda: self._db.read(work))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._off("write", lambda: self._db.write(work))

    def _meet_boot(self, db: sqlite3.Connection) -> float:
        """The offset of the lease clock from the steady clock, determined once per boot.

        The clock starts after all times written in an earlier boot, so that those leases have expired.
        """
        name = f"clock {self._clocks.boot()}"
        mark = MARKS.named(db, self.path, name)
        if mark is not None:
            return float(mark["number"])
        leases = db.execute("SELECT max(lease_until) FROM jobs WHERE state='running'").fetchone()[0] or 0.0
        buckets = db.execute("SELECT max(began) FROM buckets").fetchone()[0] or 0.0
        offset = max(self._clocks.wall(), leases + 1.0, buckets) - self._clocks.steady()
        MARKS.insert(db, {"name": name, "text": "", "number": float(offset)})
        return float(offset)

    def _now(self) -> float:
        if self._offset is None:
            raise StoreError(self.path, "is not open", "open it first")
        return self._clocks.steady() + self._offset

    async def now(self) -> float:
        return self._now()

    def _job(self, row: Row) -> Job:
        try:
            return Job.from_row(row)
        except (RequestError, ValueError, TypeError) as error:
            raise StoreError(self.path, f"job {row['id']} does not parse: {error}", REPAIR) from error

    def _jobs(self, found: Sequence[sqlite3.Row]) -> list[Job]:
        return [self._job(JOBS.row(self.path, each)) for each in found]

    def _changed(self, db: sqlite3.Connection, row: Row, changes: Mapping[str, Any]) -> Job:
        """Writes `changes` to a job and returns it. Raises RequestError for invalid changes."""
        unknown = set(changes) - set(JOBS.columns[1:])
        if unknown:
            raise RequestError(min(unknown), changes[min(unknown)], "cannot be changed", "leave it out")
        new = flat(changes)
        if new.get("priority", row["priority"]) != row["priority"]:
            new["turn"] = self._turn(db, str(row["owner"]), int(new["priority"]))
        job = Job.from_row({**row, **new})
        JOBS.update(db, row, new)
        return job

    async def add(self, jobs: Sequence[Job]) -> list[Job]:
        return await self._write(lambda db: [self._add(db, job) for job in jobs])

    def _add(self, db: sqlite3.Connection, job: Job) -> Job:
        if job.key:
            found = db.execute(
                "SELECT * FROM jobs WHERE owner=? AND key=? AND key != ''", (job.owner, job.key)
            ).fetchone()
            if found is not None:
                return self._job(JOBS.row(self.path, found))
        seq = int(self._mark(db, "position")) + 1
        self._put_mark(db, "position", float(seq))
        turn = self._turn(db, job.owner, job.priority)
        row = job.to_row() | {"turn": turn, "position": float(seq), "created_at": self._clocks.wall()}
        try:
            JOBS.insert(db, row, seq)
        except sqlite3.IntegrityError as error:
            if "jobs.id" not in str(error):
                raise
            raise RequestError("id", job.id, "a job with this id exists", "use a new id") from None
        return self._job(row)

    def _turn(self, db: sqlite3.Connection, owner: str, priority: int) -> float:
        """Start-time fair queueing: after its owner's last job, not before the last claimed turn of this priority."""
        ask = "SELECT max(turn) FROM jobs WHERE state='queued' AND owner=? AND priority=?"
        last = db.execute(ask, (owner, priority)).fetchone()[0] or 0.0
        return float(max(last, self._mark(db, f"turn {priority}"))) + 1.0

    def _mark(self, db: sqlite3.Connection, name: str) -> float:
        mark = MARKS.named(db, self.path, name)
        return 0.0 if mark is None else float(mark["number"])

    def _put_mark(self, db: sqlite3.Connection, name: str, number: float) -> None:
        MARKS.put(db, self.path, {"name": name, "text": "", "number": number})

    async def get(self, id: str) -> Job | None:
        row = await self._read(lambda db: JOBS.named(db, self.path, id))
        return None if row is None else self._job(row)

    async def find(self, query: Query) -> list[Job]:
        where, values, order = compile_query(query)
        text = f"SELECT * FROM jobs WHERE {where} ORDER BY {order} LIMIT ?"
        found = await self._read(lambda db: db.execute(text, (*values, query.limit)).fetchall())
        return self._jobs(found)

    async def claim(self, worker: str, seconds: float, id: str | None = None) -> Job | None:
        return await self._write(lambda db: self._claim(db, worker, seconds, id))

    def _claim(self, db: sqlite3.Connection, worker: str, seconds: float, id: str | None) -> Job | None:
        if id is None:
            row = next(self._waiting(db, 1), None)
        else:
            named = f"SELECT * FROM jobs WHERE id=? AND state IN ('queued', 'paused') AND {_DUE}"
            found = db.execute(named, (id, self._clocks.wall())).fetchone()
            row = None if found is None else self._free(found)
        return None if row is None else self._taken(db, row, worker, seconds, id is None)

    async def claim_more(
        self, worker: str, seconds: float, fits: Callable[[Job], bool], most: int, among: int | Collection[str]
    ) -> list[Job]:
        def work(db: sqlite3.Connection) -> list[Job]:
            taken: list[Job] = []
            front = isinstance(among, int)
            for row in [*self._waiting(db, among)]:
                if len(taken) < most and fits(self._job(row)):
                    taken.append(self._taken(db, row, worker, seconds, front))
                else:
                    front = False
            return taken

        return await self._write(work)

    def _waiting(self, db: sqlite3.Connection, among: int | Collection[str]) -> Iterator[Row]:
        """The next jobs of the queue: the first `among`, or those with these ids."""
        order = f"state='queued' AND home='queue' AND {_DUE} ORDER BY priority DESC, turn, position"
        wall = self._clocks.wall()
        if isinstance(among, int):
            # The index is named because without statistics SQLite would read and sort all queued jobs.
            ask = f"SELECT * FROM jobs INDEXED BY jobs_queue WHERE {order} LIMIT ?"
            found = db.execute(ask, (wall, among)).fetchall()
        else:
            found = db.execute(
                f"SELECT * FROM jobs WHERE {_LISTED} AND {order}", (json.dumps([*among]), wall)
            ).fetchall()
        return map(self._free, found)

    def _free(self, found: sqlite3.Row) -> Row:
        """The row of a job that can be claimed."""
        row = JOBS.row(self.path, found)
        if row["state"] not in ("queued", "paused"):  # SQLite trusts a damaged index
            raise StoreError(self.path, "the index of jobs is damaged", REPAIR)
        return row

    def _taken(self, db: sqlite3.Connection, row: Row, worker: str, seconds: float, front: bool) -> Job:
        """Claims a job; later jobs get turns after one from the `front`."""
        if front and float(row["turn"]) > self._mark(db, f"turn {row['priority']}"):
            self._put_mark(db, f"turn {row['priority']}", float(row["turn"]))
        lease = {"worker": worker, "lease_until": self._now() + seconds, "state": "running", "wanted": ""}
        counted = {"attempt": int(row["attempt"]) + 1, "stalls": int(row["stalls"]) + 1}
        return self._changed(db, row, {**lease, **counted, "started_at": self._clocks.wall(), "expires_at": 0.0})

    async def renew(self, id: str, attempt: int, seconds: float, reached: float) -> Job | None:
        def work(db: sqlite3.Connection) -> Job | None:
            row = self._held(db, id, attempt)
            if row is None:
                return None
            further = {"reached": reached, "stalls": 0} if reached > float(row["reached"]) else {}
            return self._changed(db, row, {"lease_until": self._now() + seconds, **further})

        return await self._write(work)

    async def settle(self, id: str, attempt: int, changes: Mapping[str, Any], lapsed: bool = False) -> Job | None:
        def work(db: sqlite3.Connection) -> Job | None:
            row = self._held(db, id, attempt)
            if row is None or (lapsed and float(row["lease_until"]) > self._now()):
                return None
            return self._changed(db, row, changes)

        return await self._write(work)

    def _held(self, db: sqlite3.Connection, id: str, attempt: int) -> Row | None:
        """The row of a job that runs with this token."""
        row = JOBS.named(db, self.path, id)
        return row if row is not None and row["state"] == "running" and row["attempt"] == attempt else None

    async def change(self, id: str, states: Collection[State], changes: Mapping[str, Any]) -> Job | None:
        def work(db: sqlite3.Connection) -> Job | None:
            row = JOBS.named(db, self.path, id)
            return None if row is None or row["state"] not in states else self._changed(db, row, changes)

        return await self._write(work)

    async def remove(self, id: str, states: Collection[State]) -> Job | None:
        def work(db: sqlite3.Connection) -> Job | None:
            row = JOBS.named(db, self.path, id)
            if row is None or row["state"] not in states:
                return None
            db.execute("DELETE FROM jobs WHERE id=?", (id,))
            return self._job(row)

        return await self._write(work)

    async def reorder(self, id: str, before: str | None) -> Job | None:
        return await self._write(lambda db: self._reorder(db, id, before))

    def _reorder(self, db: sqlite3.Connection, id: str, before: str | None) -> Job | None:
        row = JOBS.named(db, self.path, id)
        if row is None or row["state"] != "queued":
            return None
        ask = "SELECT * FROM jobs WHERE state='queued' AND owner=? AND priority=? ORDER BY turn, position"
        rows = [JOBS.row(self.path, each) for each in db.execute(ask, (row["owner"], row["priority"])).fetchall()]
        places = [(each["turn"], each["position"]) for each in rows]
        names = [each["id"] for each in rows]
        if before is not None and before not in names:
            return None
        if before != id:
            mine = rows.pop(names.index(id))
            rows.insert(len(rows) if before is None else [each["id"] for each in rows].index(before), mine)
        for each, (turn, position) in zip(rows, places, strict=True):
            JOBS.update(db, each, {"turn": turn, "position": position})
        moved = JOBS.named(db, self.path, id)
        return None if moved is None else self._job(moved)

    async def lapsed(self, limit: int = 100) -> list[Job]:
        def work(db: sqlite3.Connection) -> list[sqlite3.Row]:
            over = "SELECT * FROM jobs WHERE state='running' AND lease_until <= ? ORDER BY lease_until LIMIT ?"
            found = db.execute(over, (self._now(), limit)).fetchall()
            late = (
                "SELECT * FROM jobs WHERE expires_at > 0 AND state IN ('queued', 'paused') AND expires_at <= ? LIMIT ?"
            )
            return found + db.execute(late, (self._clocks.wall(), limit - len(found))).fetchall()

        return self._jobs(await self._read(work))

    async def counts(self, owner: str | None = None) -> dict[State, int]:
        where, values = ("1", ()) if owner is None else ("owner=?", (owner,))
        ask = f"SELECT state, count(*) FROM jobs WHERE {where} GROUP BY state"
        found = dict(await self._read(lambda db: [tuple(row) for row in db.execute(ask, values)]))
        return {state: found.get(state, 0) for state in STATES}

    async def spent(self, owner: str, since: float) -> float:
        waiting = "('queued', 'running', 'paused')"
        ask = f"SELECT sum(seconds) FROM jobs WHERE owner=? AND (state IN {waiting} OR finished_at >= ?)"
        return float(await self._read(lambda db: db.execute(ask, (owner, since)).fetchone()[0]) or 0.0)

    async def put(self, note: Note) -> None:
        await self._write(lambda db: NOTES.put(db, self.path, note.to_row()))

    async def put_new(self, note: Note) -> Note | None:
        existing = await self._write(lambda db: NOTES.put_new(db, self.path, note.to_row()))
        return None if existing is None else Note.of(**existing)

    async def note(self, kind: str, id: str) -> Note | None:
        row = await self._read(lambda db: NOTES.named(db, self.path, kind, id))
        return None if row is None else Note.of(**row)

    async def notes(
        self, kind: str, owner: str | None = None, due: float | None = None, ids: Collection[str] | None = None
    ) -> list[Note]:
        listed = None if ids is None else json.dumps([*ids])
        conditions = {"kind=?": kind, "owner=?": owner, "due > 0 AND due <= ?": due, _LISTED: listed}
        applied = {each: value for each, value in conditions.items() if value is not None}
        ask = f"SELECT * FROM notes WHERE {' AND '.join(applied)} ORDER BY id"
        found = await self._read(lambda db: db.execute(ask, tuple(applied.values())).fetchall())
        return [Note.of(**NOTES.row(self.path, each)) for each in found]

    async def drop(self, kind: str, id: str) -> bool:
        ask = "DELETE FROM notes WHERE kind=? AND id=?"
        return await self._write(lambda db: db.execute(ask, (kind, id)).rowcount > 0)

    async def take(self, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        return await self._write(lambda db: self._take(db, bucket, amount, limit, window))

    def _take(self, db: sqlite3.Connection, bucket: str, amount: int, limit: int, window: float) -> tuple[int, float]:
        now = self._now()
        row = BUCKETS.named(db, self.path, bucket)
        if row is None or not float(row["began"]) <= now < float(row["ends"]):
            row = {"bucket": bucket, "began": now, "ends": now + window, "taken": 0}
            db.execute("DELETE FROM buckets WHERE ends <= ?", (now,))
        granted = max(0, min(amount, limit - int(row["taken"])))
        if granted:
            BUCKETS.put(db, self.path, row | {"taken": int(row["taken"]) + granted})
        return granted, float(row["ends"])

    async def protected(self) -> bool:
        return await self._read(lambda db: key_record.protected(db, self.path))

    async def protect(self, id: str, name: str, revoked_at: float = 0.0) -> None:
        await self._write(lambda db: key_record.protect(db, self.path, id, key_record.Entry(name, revoked_at)))

    async def release(self) -> None:
        await self._write(lambda db: key_record.release(db, self.path))

    async def secret(self, name: str) -> str:
        mark = await self._read(lambda db: MARKS.named(db, self.path, f"secret {name}"))
        return str(mark["text"]) if mark is not None else await self._write(lambda db: drawn(db, self.path, name))

    async def check(self) -> list[str]:
        return await self._off("read", lambda: self._db.read(backup.faults))
