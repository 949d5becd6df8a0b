"""The application: its routes, and the middleware that every request passes before them.

RequestContext   request id, log line, security headers; 500 for an unexpected error
Hosts            refuses a Host header that does not name this service
CORSMiddleware   lets browsers send requests from the origins of --origin, and from no other
OriginCheck      for requests that change something: authentication, origin and rate limits
BodyLimits       size, speed, content type and nesting of the request body
routes           each requires a reader, a creator or an admin; see `flickbook.server.access.dependencies`
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from flickbook import __version__
from flickbook.jobs.webhooks import Webhooks
from flickbook.server import errors
from flickbook.server.access.dependencies import Guard
from flickbook.server.api import (
    batches,
    catalogue,
    drafts,
    events,
    job_files,
    jobs,
    loras,
    pulls,
    recipes,
    sequences,
    shots,
    webhooks,
)
from flickbook.server.compatible import images, models, videos
from flickbook.server.middleware.body_limits import BodyLimits
from flickbook.server.middleware.origin_check import Hosts, OriginCheck
from flickbook.server.middleware.request_context import RequestContext
from flickbook.server.operations import health, reference
from flickbook.server.operations.maintenance import periodic_tasks
from flickbook.server.service import Service
from flickbook.server.submission.queue_position import Line
from flickbook.server.tuning import routes as tunes

_ROUTES: Final = (
    *(health, reference, videos, images, models),
    *(jobs, drafts, sequences, shots, tunes, batches, recipes, catalogue, loras, pulls, job_files, events, webhooks),
)
_REQUEST_HEADERS: Final = ["authorization", "content-type", "idempotency-key", "last-event-id", "range", "x-request-id"]
_RESPONSE_HEADERS: Final = [
    *("accept-ranges", "content-length", "content-range", "etag", "location", "retry-after", "x-request-id"),
]


def create_app(service: Service) -> FastAPI:
    """The HTTP application of a service whose store is open. While it runs it tends the queue."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await app.state.guard.prepare()
        async with periodic_tasks(service, app.state.webhooks), pulls.supplied(service, app.state.pulls):
            try:
                yield
            finally:
                await app.state.pulls.stop()

    app = FastAPI(
        title="Flickbook",
        version=__version__,
        summary="Short films from text prompts, on your own machine.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    app.state.metrics = health.Metrics()
    app.state.guard = Guard(service)
    app.state.pulls = pulls.Pulls()
    app.state.webhooks = Webhooks(service.store, service.webhook_hosts)
    app.state.line = Line(service.queue, service.live_workers)
    #: Set when the service stops; streams without an end must end then.
    app.state.closing = asyncio.Event()
    app.state.watches = events.Watches(service, app.state.closing)
    #: Paths that accept a POST without authentication.
    app.state.public = set()
    errors.install(app)
    for routes in _ROUTES:
        app.include_router(routes.router, responses=_responses(routes.router))
    _describe(app)
    # The last that is added is the first that is passed.
    app.add_middleware(BodyLimits)
    app.add_middleware(OriginCheck, guard=app.state.guard, origins=service.origins, public=app.state.public)
    if service.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )
    app.add_middleware(Hosts, service=service)
    app.add_middleware(RequestContext, metrics=app.state.metrics)
    return app


def _responses(router: APIRouter) -> dict[int | str, dict[str, Any]]:
    """The refusals that every route may answer with, in the form of its path."""
    paths = [str(getattr(route, "path", "")) for route in router.routes]
    compatible = bool(paths) and all(path.startswith("/v1/") for path in paths)
    model = errors.CompatibleRefusal if compatible else errors.Refusal
    return errors.refusals(model=model, always=errors.EVERYWHERE)


def _operation_id(route: APIRoute) -> str:
    """The name of a route's function, which is unique in all but the list of models, that both APIs have."""
    return f"compatible_{route.name}" if route.path.startswith("/v1/models") else route.name


def _describe(app: FastAPI) -> None:
    """Leave out of the OpenAPI document the 422 that FastAPI would answer with, and say of what type refusals are."""
    made = app.openapi
    routes = [route for each in _ROUTES for route in each.router.routes if isinstance(route, APIRoute)]
    summarised = {(route.path, verb.lower()) for route in routes if route.summary for verb in route.methods or ()}

    def openapi() -> dict[str, Any]:
        document = made()
        for path, operations in document["paths"].items():
            for verb, operation in operations.items():
                if (path, verb) not in summarised and "description" in operation:
                    # The first sentence of the route's docstring.
                    operation["summary"] = re.split(r"[.:;](?:\s|$)", operation["description"])[0]
                responses = operation.get("responses", {})
                responses.pop("422", None)
                if any(each["name"].lower() == "idempotency-key" for each in operation.get("parameters", ())):
                    responses |= {"422": responses["400"] | {"description": errors.DESCRIPTIONS[422]}}
                for status, response in responses.items():
                    if status >= "400" and response.get("content"):
                        # Whatever a route sends, its refusals are JSON.
                        response["content"] = {"application/json": next(iter(response["content"].values()))}
        for name in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
