"""What the service does by itself: frees what dead workers held, forgets what is old and what is nobody's, tells."""

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

#: Seconds between two looks at leases, between two clearings up, and until files without a job are removed.
TEND: Final = 5.0
SWEEP: Final = 3600.0
ORPHAN: Final = 3600.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def tended(service: Service, webhooks: Webhooks) -> AsyncIterator[None]:
    """While this stands, the service tends its queue, and tells of what is done."""
    tasks = [
        asyncio.create_task(_every(TEND, webhooks.run)),
        asyncio.create_task(_every(TEND, lambda: tend(service))),
        asyncio.create_task(_every(SWEEP, lambda: sweep(service))),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def tend(service: Service) -> None:
    """Free what dead workers held, and end what is past its time."""
    for job in await service.queue.tend():
        logger.warning("%s is %s now: %s", job.id, job.state, job.error or "its time is over")


async def sweep(service: Service) -> None:
    """Forget what is done for longer than is kept, or takes too much space, and files that belong to no job."""
    await service.store.keep()
    await idempotency.forget(service.store)
    if service.keep > 0 or service.max_disk is not None:
        for job in await service.queue.sweep(service.keep, service.max_disk):
            logger.info("%s is forgotten", job.id)
    for id in await asyncio.to_thread(_old, service):
        # A batch goes with the last of its jobs that may go on from it.
        if await asyncio.to_thread(lambda id: bool(service.artifacts.members(id)), id):
            continue
        found = await service.store.get(id)
        # Files come before their job does, so only what is old and without one belongs to nobody.
        if found is None:
            freed = await asyncio.to_thread(service.artifacts.clear, id)
            logger.warning("%s was removed, %d bytes that belonged to no job", id, freed)
        elif found.state == "completed" and found.kind != "draft" and not found.leader:
            # Left by a worker that died between settling its film and this; a draft's state is what it made.
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
            logger.exception("unexpected error while tending")
        await asyncio.sleep(seconds)
