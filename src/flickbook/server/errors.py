"""Error responses: one status and one JSON form for each error of the package.

Under /v1 the form is that of the OpenAI API: `{"error": {"message", "type", "param", "code"}}`; elsewhere it is
`{"error": {"code", "message", "field"}}`. Paths of this machine are written to the log, never to a response.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from flickbook.errors import (
    FlickbookError,
    IdempotencyKeyReused,
    JobNotFound,
    LimitReached,
    MediaError,
    MissingExtra,
    ModelNotFound,
    ModelNotPulled,
    OutputError,
    StoreError,
    WeightsError,
    one_line,
    shown,
)

_STATUS: Final[tuple[tuple[type[FlickbookError], int], ...]] = (
    (JobNotFound, 404),
    (ModelNotFound, 404),
    (IdempotencyKeyReused, 422),
    (LimitReached, 429),
    (OutputError, 503),
    (StoreError, 503),
    (MissingExtra, 501),
)
_CODE: Final = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_type",
    416: "range_not_satisfiable",
    421: "wrong_host",
    429: "limit_reached",
}
#: The descriptions of the statuses in OpenAPI.
DESCRIPTIONS: Final = {
    400: "A field is invalid, or the state of the job does not allow this; the message names the field and the remedy",
    401: "The key is missing, wrong, revoked or expired",
    403: "The API key lacks the scope, or the request comes from another origin",
    404: "Not found, or owned by another caller",
    409: "The model is not on this machine; POST to the path in `pull` to download it",
    408: "The request body arrived too slowly",
    413: "The request body is too large",
    415: "The content type is not supported",
    416: "The range lies outside the file",
    421: "The Host header does not name this service",
    422: "The Idempotency-Key was used before with another request",
    429: "Too many requests or jobs; retry after the time in retry-after",
    501: "A package that this endpoint needs is not installed on the service",
    503: "The job store or the disk does not respond; try again",
    507: "The disk is full",
}
#: The statuses that any request may get, and those that the routes document.
EVERYWHERE: Final = (400, 401, 403, 404, 408, 413, 415, 421, 429, 503, 507)
_KNOWN: Final = (400, 401, 403, 429, 503)
_TYPE: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_FULL: Final = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "the disk is full")

logger = logging.getLogger(__name__)


class Fault(BaseModel):
    """The error. `code` is stable, `message` is for people, `field` names the field of the request, if there is one.

    `pull` is only set with the code model_not_pulled: a POST to this path downloads the model.
    """

    code: str
    message: str
    field: str | None = None
    pull: str | None = None


class Refusal(BaseModel):
    """The body of an error response."""

    error: Fault


class CompatibleFault(BaseModel):
    """The error in the form of the OpenAI API.

    `pull` is added with the code model_not_pulled: a POST to this path downloads the model.
    """

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    pull: str | None = None


class CompatibleRefusal(BaseModel):
    """The body of an error response under /v1."""

    error: CompatibleFault


def refusals(
    *statuses: int, model: type[BaseModel] = Refusal, always: Iterable[int] = _KNOWN
) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for OpenAPI: these statuses and those in `always`."""
    return {code: {"model": model, "description": DESCRIPTIONS[code]} for code in sorted({*always, *statuses})}


def answer(
    scope: Scope,
    status: int,
    code: str,
    message: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> Response:
    """Return an error response in the form that belongs to the path of the request; `more` are further fields."""
    if str(scope["path"]).startswith("/v1/"):
        kind = "server_error" if status >= 500 else _TYPE.get(status, "invalid_request_error")
        error: dict[str, Any] = {"message": message, "type": kind, "param": field, "code": code}
    else:
        error = {"code": code, "message": message, "field": field}
    return JSONResponse({"error": error | more}, status, headers)


def refusal(scope: Scope, error: Exception) -> Response:
    """Return the response for an error. Raises TypeError for an unexpected exception."""
    if isinstance(error, FlickbookError):
        return _ours(scope, error)
    if isinstance(error, HTTPException):
        code = _CODE.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"))
        return answer(scope, error.status_code, code, str(error.detail), None, error.headers)
    if isinstance(error, RequestValidationError):
        return _invalid(scope, error)
    raise TypeError(f"{type(error).__name__} is no refusal")


def _ours(scope: Scope, error: FlickbookError) -> Response:
    if isinstance(error, ModelNotPulled):
        return _absent(scope, error)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    message, headers = str(error), dict[str, str]()
    if isinstance(error, LimitReached):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, StoreError | OutputError):
        logger.error("%s", error)
        if any(each in error.reason for each in _FULL):
            status, message = 507, "the disk is full; try again when space was freed"
        else:
            message = "the service cannot reach its job store or files; try again, and see its log"
            headers["retry-after"] = "5"
    elif isinstance(error, MediaError | WeightsError):
        message = f"{error.reason}; {error.remedy}"  # without the path
    return answer(scope, status, error.code, message, error.field, headers)


def pull_path(model: str) -> str:
    """Return the path at which the download of a model is started and followed."""
    return f"/api/v1/models/{model}/pull"


def _absent(scope: Scope, error: ModelNotPulled) -> Response:
    """Return 409 with the path of the download; under /v1 return 400, because OpenAI's clients retry after a 409."""
    where = pull_path(error.model)
    message = f"{error.model} {error.reason}; POST {where} downloads it"
    status = 400 if str(scope["path"]).startswith("/v1/") else 409
    return answer(scope, status, error.code, message, error.field, pull=where)


def _invalid(scope: Scope, error: RequestValidationError) -> Response:
    """Return 400 with the first wrong field."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return answer(scope, 400, "invalid_request", "the body is not valid JSON; correct it")
    field = ".".join(place) or None
    if first["type"] == "extra_forbidden":
        return answer(scope, 400, "invalid_request", f"{shown(field)}: no such field; leave it out", field)
    value = "" if first["type"] == "missing" else f"={shown(first.get('input'))}"
    text = f"{field or first['loc'][0]}{value}: {one_line(first['msg']).lower()}; correct it"
    return answer(scope, 400, "invalid_request", text, field)


async def _handle(request: Request, error: Exception) -> Response:
    response = refusal(request.scope, error)
    if response.status_code == 405:
        response.headers["allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Return the methods of a path. Where several routes share a path, the router knows only those of the first."""
    path, paths = request.url.path, request.app.openapi()["paths"]
    if path in paths:
        return {method.upper() for method in paths[path]}
    alike = [each for each in paths if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(each)), path)]
    return {method.upper() for each in alike for method in paths[each]}


def install(app: FastAPI) -> None:
    """Register the error handlers of the application."""
    for kind in (FlickbookError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _handle)
