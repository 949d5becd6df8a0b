"""Health and metrics: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from flickbook.errors import FlickbookError
from flickbook.server.access.dependencies import Admin
from flickbook.server.service import Service, service_of
from flickbook.store.base import Job, Query, State

#: Seconds that the store has to answer, and for which a response of /readyz is reused.
_PATIENCE: Final = 5.0
_FRESH: Final = 1.0
#: The number of recent jobs that the durations are computed from.
_LAST: Final = 200
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

router = APIRouter(tags=["operations"])
logger = logging.getLogger(__name__)


class Metrics:
    """The request metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count = Counter(
            "flickbook_requests",
            "Requests by method, route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "flickbook_request_seconds", "Seconds until the end of a response.", ["route"], registry=self.registry
        )

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request under the template of its route; with its path, each job would become a time series."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


@router.get("/healthz", summary="Liveness of the service")
async def healthz() -> dict[str, bool]:
    """Reports that this process responds; checks nothing else."""
    return {"live": True}


@router.get("/readyz", summary="Readiness of the service", responses={503: {"description": "It cannot."}})
async def readyz(request: Request) -> JSONResponse:
    """Checks the store and that files of jobs can be written. Also counts the live workers of the queue."""
    service = service_of(request)
    at, found = getattr(request.app.state, "ready", (float("-inf"), dict[str, Any]()))
    if time.monotonic() - at > _FRESH:
        alive, files = await asyncio.gather(_live_workers(service), asyncio.to_thread(_files_writable, service))
        store = alive is not None
        workers = {"wanted": service.workers, "alive": alive}
        found = {"ready": store and files, "store": store, "files": files, "workers": workers}
        request.app.state.ready = (time.monotonic(), found)
    return JSONResponse(found, 200 if found["ready"] else 503)


async def _live_workers(service: Service) -> int | None:
    """Return the number of live workers, None if the store does not respond."""
    try:
        await asyncio.wait_for(service.store.counts(), _PATIENCE)
        return await asyncio.wait_for(service.live_workers(), _PATIENCE)
    except (FlickbookError, TimeoutError) as error:
        logger.error("the store does not respond: %s", error)
        return None


def _files_writable(service: Service) -> bool:
    try:
        service.artifacts.check()
    except FlickbookError as error:
        logger.error("%s", error)
        return False
    return True


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request, caller: Admin) -> Response:
    """Returns the requests that this process counted and the current number of jobs by state."""
    service = service_of(request)
    counts = await service.store.counts()
    done = await service.store.find(Query(states=("completed",), limit=_LAST))
    text = generate_latest(request.app.state.metrics.registry)
    text += generate_latest(_jobs(counts, done, await service.live_workers()))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _jobs(counts: Mapping[State, int], done: Sequence[Job], workers: int) -> CollectorRegistry:
    """Return the metrics that are computed from the store at each request."""
    registry = CollectorRegistry()
    states = Gauge("flickbook_jobs", "Jobs by state.", ["state"], registry=registry)
    for state, count in counts.items():
        states.labels(state).set(count)
    Gauge("flickbook_workers", "Live workers of the queue, on all machines.", registry=registry).set(workers)
    started = [job for job in done if job.started_at]
    for name, about, seconds in (
        ("job_duration", "Seconds from start to end", [job.finished_at - job.started_at for job in started]),
        ("queue_wait", "Seconds from creation to start", [job.started_at - job.created_at for job in started]),
    ):
        text = f"{about}, of the last {_LAST} completed jobs."
        gauge = Gauge(f"flickbook_{name}_seconds", text, ["quantile"], registry=registry)
        ranked = sorted(max(0.0, each) for each in seconds)
        for share in (0.5, 0.95) if ranked else ():
            gauge.labels(share).set(ranked[min(len(ranked) - 1, int(share * len(ranked)))])
    return registry
