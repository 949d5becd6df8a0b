"""Periodic maintenance: expired leases, webhooks, old jobs, orphaned files."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from flickbook.errors import FlickbookError
from flickbook.jobs.webhooks import Webhooks
from flickbook.server.service import Service
from flickbook.server.submission import idempotency

#: Seconds between two checks of the leases, between two clean-ups, and until files without a job are removed.
RECOVER_EVERY: Final = 5.0
DELETE_EVERY: Final = 3600.0
ORPHAN: Final = 3600.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def periodic_tasks(service: Service, webhooks: Webhooks) -> AsyncIterator[None]:
    """Run the periodic tasks while the context is open."""
    tasks = [
        asyncio.create_task(_every(RECOVER_EVERY, webhooks.run)),
        asyncio.create_task(_every(RECOVER_EVERY, lambda: recover_jobs(service))),
        asyncio.create_task(_every(DELETE_EVERY, lambda: delete_old(service))),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def recover_jobs(service: Service) -> None:
    """Release expired leases, and end jobs that exceeded their time limit."""
    for job in await service.queue.recover():
        logger.warning("%s is %s now: %s", job.id, job.state, job.error or "expired")


async def delete_old(service: Service) -> None:
    """Delete jobs that are older than `keep` or exceed `max_disk`, expired idempotency keys, and files without a
    job."""
    await service.store.keep()
    await idempotency.forget(service.store)
    if service.keep > 0 or service.max_disk is not None:
        for job in await service.queue.delete_old(service.keep, service.max_disk):
            logger.info("%s was deleted", job.id)
    for id in await asyncio.to_thread(_old, service):
        # The files of a batch are kept while one of its jobs may resume from them.
        if await asyncio.to_thread(lambda id: bool(service.artifacts.members(id)), id):
            continue
        found = await service.store.get(id)
        # Files are created before their job, so only old files without a job are orphans.
        if found is None:
            freed = await asyncio.to_thread(service.artifacts.clear, id)
            logger.warning("%s was removed: %d bytes that belonged to no job", id, freed)
        elif found.state == "completed" and found.kind != "draft" and not found.leader:
            # Checkpoints of a worker that died after it completed the job. A draft's checkpoint is its result and
            # stays.
            await asyncio.to_thread(service.artifacts.forget, id)


def _old(service: Service) -> list[str]:
    found = []
    for id in service.artifacts.ids():
        with suppress(OSError):
            if time.time() - service.artifacts.of(id).stat().st_mtime > ORPHAN:
                found.append(id)
    return found


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except FlickbookError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("unexpected error in maintenance")
        await asyncio.sleep(seconds)
