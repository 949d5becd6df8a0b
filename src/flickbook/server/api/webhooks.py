"""Webhooks over HTTP, in two forms: the native one, and that of the OpenAI SDK."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from flickbook.errors import FlickbookError
from flickbook.jobs.webhooks import EVENTS, Delivery, Endpoint, Event, Webhooks
from flickbook.server.access.dependencies import Changer, Reader
from flickbook.server.api.requests import Body
from flickbook.server.api.responses import ROOT, Deleted, page_fields
from flickbook.server.errors import CompatibleRefusal, refusals
from flickbook.server.service import Caller, service_of
from flickbook.server.submission.idempotency import ChangeKey

_COMPATIBLE: Final[dict[int | str, dict[str, Any]]] = {
    code: {**response, "model": CompatibleRefusal} for code, response in refusals(404, 408, 413, 415, 421, 507).items()
}
_EXAMPLE: Final[dict[str, Any]] = {
    "url": "https://hooks.example.com/flickbook",
    "name": "mine",
    "event_types": ["video.completed"],
}
router = APIRouter()


class WebhookRequest(Body):
    """The URL of a webhook and its event types. The URL must be https, on a host that the service allows."""

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    name: Annotated[str, Field(max_length=100)] = ""
    event_types: Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))] = list(EVENTS)

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class WebhookResponse(BaseModel):
    """A webhook. Its `signing_secret` is returned only once, when it is created."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    name: str
    event_types: list[Event]
    created_at: int
    signing_secret_hint: str


class WebhookCreated(WebhookResponse):
    """A new webhook and the secret that signs its messages."""

    signing_secret: str


class WebhookPage(BaseModel):
    """A page of webhooks."""

    object: Literal["list"] = "list"
    data: list[WebhookResponse]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeliveryResponse(BaseModel):
    """A delivery: its number of attempts, the receiver's last response, and the time of the next attempt."""

    id: str
    object: Literal["delivery"] = "delivery"
    event_type: Event
    state: Literal["waiting", "delivered", "given_up"]
    attempts: int
    status: int | None
    error: str | None
    created_at: float
    due_at: float | None


class DeliveryPage(BaseModel):
    """The newest deliveries of a webhook."""

    object: Literal["list"] = "list"
    data: list[DeliveryResponse]


def webhooks_of(request: Request) -> Webhooks:
    """Return the webhooks of the request's service."""
    found: Webhooks = request.app.state.webhooks
    return found


def _response_fields(endpoint: Endpoint, secret: str) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "name": endpoint.name,
        "event_types": list(endpoint.events),
        "created_at": int(endpoint.created_at),
        "signing_secret_hint": f"whsec_…{secret[-4:]}",
    }


async def _found(id: str, request: Request, caller: Caller) -> Endpoint:
    endpoint = await webhooks_of(request).endpoint(id, caller.sees)
    if endpoint is None:
        raise HTTPException(404, "no such webhook")
    return endpoint


async def create(body: WebhookRequest, request: Request, caller: Changer, idempotency: ChangeKey) -> WebhookCreated:
    """Create a webhook. Messages about finished jobs are signed, and repeated for up to a day until the response is
    2xx."""
    webhooks, arguments = webhooks_of(request), (caller.owner, body.url, body.event_types, body.name)
    if idempotency is None:
        endpoint, secret = await webhooks.create(*arguments)
    else:
        fresh = await idempotency.claim(service_of(request)) is None
        try:
            endpoint, secret = await webhooks.create(*arguments, id=idempotency.id("whk"))
        except FlickbookError:
            if fresh:
                await idempotency.release(service_of(request))
            raise
    return WebhookCreated(**_response_fields(endpoint, secret), signing_secret=secret)


async def list_webhooks(
    request: Request,
    caller: Reader,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> WebhookPage:
    """List the webhooks, oldest first."""
    webhooks = webhooks_of(request)
    found = [each for each in await webhooks.endpoints(caller.sees) if after is None or each.id > after]
    data = [WebhookResponse(**_response_fields(each, await webhooks.secret(each))) for each in found[:limit]]
    return WebhookPage(**page_fields(data, len(found) > limit))


async def show(id: str, request: Request, caller: Reader) -> WebhookResponse:
    """Get a webhook."""
    endpoint = await _found(id, request, caller)
    return WebhookResponse(**_response_fields(endpoint, await webhooks_of(request).secret(endpoint)))


async def delete(id: str, request: Request, caller: Changer) -> Deleted:
    """Delete a webhook. Waiting messages are not sent."""
    endpoint = await _found(id, request, caller)
    await webhooks_of(request).remove(endpoint.id)
    return Deleted(id=endpoint.id, object="webhook_endpoint.deleted")


@router.get(
    f"{ROOT}/webhooks/{{id}}/deliveries", operation_id="webhook_deliveries", tags=["webhooks"], responses=refusals(404)
)
async def deliveries(id: str, request: Request, caller: Reader) -> DeliveryPage:
    """List the deliveries of the last day and those still waiting, newest first."""
    endpoint = await _found(id, request, caller)
    return DeliveryPage(data=[_delivery(each) for each in await webhooks_of(request).deliveries(endpoint)])


def _delivery(each: Delivery) -> DeliveryResponse:
    return DeliveryResponse(
        id=each.id,
        event_type=each.event,
        state=each.state,
        attempts=each.attempt,
        status=each.status or None,
        error=each.error or None,
        created_at=each.created_at,
        due_at=each.due if each.state == "waiting" else None,
    )


def _serve(path: str, prefix: str, tag: str, known: dict[int | str, dict[str, Any]], made: int) -> None:
    """Register the four routes of a path."""
    options: dict[str, Any] = {"tags": [tag], "responses": known}
    router.post(path, operation_id=f"{prefix}create_webhook", status_code=made, **options)(create)
    router.get(path, operation_id=f"{prefix}list_webhooks", **options)(list_webhooks)
    router.get(f"{path}/{{id}}", operation_id=f"{prefix}show_webhook", **options)(show)
    router.delete(f"{path}/{{id}}", operation_id=f"{prefix}delete_webhook", **options)(delete)


_serve(f"{ROOT}/webhooks", "", "webhooks", refusals(404, 413), 201)
_serve("/v1/webhook_endpoints", "compatible_", "webhook endpoints", _COMPATIBLE, 200)
