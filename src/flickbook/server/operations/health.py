"""Health and metrics: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from flickbook.errors import FlickbookError
from flickbook.server.access.dependencies import admin
from flickbook.server.service import Caller, Service, service_of
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
    """Checks the store and that files of jobs can be written. Also counts the live workers."""
    service = service_of(request)
    at, found = getattr(request.app.state, "ready", (float("-inf"), dict[str, bool]()))
    if time.monotonic() - at > _FRESH:
        store, files = await asyncio.gather(
            _store_answers(service), asyncio.to_thread(_writable, service.artifacts.root)
        )
        found = {"ready": store and files, "store": store, "files": files}
        request.app.state.ready = (time.monotonic(), found)
    workers = {"wanted": service.workers, "alive": alive(service)}
    return JSONResponse({**found, "workers": workers}, 200 if found["ready"] else 503)


def alive(service: Service) -> int:
    """Return the number of the service's live workers."""
    return 0 if service.alive is None else service.alive()


async def _store_answers(service: Service) -> bool:
    try:
        await asyncio.wait_for(service.store.counts(), _PATIENCE)
    except (FlickbookError, TimeoutError) as error:
        logger.error("the store does not respond: %s", error)
        return False
    return True


def _writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"x")
    except OSError as error:
        logger.error("%s cannot be written: %s", root, error)
        return False
    return True


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request, caller: Annotated[Caller, Depends(admin)]) -> Response:
    """Returns the requests that this process counted and the current number of jobs by state."""
    service = service_of(request)
    counts = await service.store.counts()
    done = await service.store.find(Query(states=("completed",), limit=_LAST))
    text = generate_latest(request.app.state.metrics.registry)
    jobs = CollectorRegistry()
    jobs.register(_Collector(_families(service, counts, done)))
    return Response(text + generate_latest(jobs), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Collector:
    """A collector of metric families that were computed before."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def _families(service: Service, counts: Mapping[State, int], done: Sequence[Job]) -> list[GaugeMetricFamily]:
    states = GaugeMetricFamily("flickbook_jobs", "Jobs by state.", labels=["state"])
    for state, count in counts.items():
        states.add_metric([state], count)
    workers = GaugeMetricFamily("flickbook_workers", "Workers of this service that are alive.", alive(service))
    started = [job for job in done if job.started_at]
    lasted = _quantiles(
        "flickbook_job_duration_seconds",
        f"Seconds from start to end, of the last {_LAST} completed jobs.",
        [job.finished_at - job.started_at for job in started],
    )
    waited = _quantiles(
        "flickbook_queue_wait_seconds",
        f"Seconds from creation to start, of the last {_LAST} completed jobs.",
        [job.started_at - job.created_at for job in started],
    )
    return [states, workers, lasted, waited]


def _quantiles(name: str, about: str, seconds: Sequence[float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=["quantile"])
    ranked = sorted(max(0.0, each) for each in seconds)
    for share in (0.5, 0.95):
        if ranked:
            family.add_metric([str(share)], ranked[min(len(ranked) - 1, int(share * len(ranked)))])
    return family
