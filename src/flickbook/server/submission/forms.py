"""Request bodies: JSON and forms become one nested dict of fields, and the uploaded files.

Forms write nested fields with brackets: `loras[][name]`, `loras[0][name]`, `extra_params[seed]`. The first
`loras[][name]` belongs to the first element and the second to the second, wherever they appear among other fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from fastapi import HTTPException
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from flickbook.errors import RequestError
from flickbook.server.service import DATASETS, MAX_DATASET_FILES

#: Limits: levels of nesting, brackets after a name, fields and files of a form, bytes of a field and of `request`.
MAX_DEPTH: Final = 8
_BRACKETS: Final = 4
_FIELDS: Final = 256
_FILES: Final = 24
_FIELD_BYTES: Final = 16 << 20
_REQUEST_BYTES: Final = 1 << 20
#: Bytes of each file of a dataset that are kept in memory before they are written to a temporary file.
_SPOOLED: Final = 1 << 16
_NAME: Final = re.compile(r"([^\[\]]{1,128})((?:\[[^\[\]]{0,128}\])*)", re.DOTALL)
_PLACE: Final = re.compile(r"[0-9]{1,3}")
_JSON: Final = "application/json"
_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class Body:
    """The fields and files of a request. `typed` is False for a form, whose values are all strings."""

    fields: dict[str, Any]
    files: dict[str, UploadFile] = field(default_factory=dict)
    typed: bool = True


@asynccontextmanager
async def body_of(request: Request) -> AsyncIterator[Body]:
    """Parse the body of a request; its files are deleted on exit.

    Raises RequestError for a malformed body, and HTTPException 415 for another content type.
    """
    kind = _kind(request)
    if kind == _JSON or kind.endswith("+json"):
        yield Body(from_json(await request.body()))
        return
    if kind not in _FORMS:
        raise HTTPException(415, f"send {_JSON} or {_FORMS[0]}")
    form = await form_of(request)
    try:
        items = form.multi_items()
        texts = [(name, value) for name, value in items if isinstance(value, str)]
        yield Body(nested(texts), _files(items), typed=False)
    finally:
        await form.close()


def is_form(request: Request) -> bool:
    """Whether the body is a form."""
    return _kind(request) in _FORMS


async def form_of(request: Request) -> FormData:
    """Return the parts of a form, parsed once per request. Raises RequestError for a malformed form."""
    try:
        if request.scope.get("path") in DATASETS:
            return await _dataset(request)
        return await request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
    except (ValueError, LookupError):  # an unknown charset, or text that is not valid in it
        raise RequestError("body", _kind(request), "cannot be read", "write it in UTF-8") from None


async def _dataset(request: Request) -> FormData:
    """Return the parts of a dataset: many files, of which each is held in memory only if it is small."""
    if not hasattr(request.state, "dataset"):
        parser = MultiPartParser(
            request.headers, request.stream(), max_files=MAX_DATASET_FILES, max_fields=8, max_part_size=_REQUEST_BYTES
        )
        parser.spool_max_size = _SPOOLED
        try:
            request.state.dataset = await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from None
    form: FormData = request.state.dataset
    return form


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def request_of(body: Body, files: Collection[str]) -> tuple[dict[str, Any] | None, dict[str, UploadFile]]:
    """Return the JSON in the part `request` of a form (None if it is missing) and its `files`.

    Raises RequestError for parts with other names.
    """
    fields, found = dict(body.fields), dict(body.files)
    text = fields.pop("request", None)
    if "request" in found:
        text = await found.pop("request").read(_REQUEST_BYTES + 1)
    for name in (*fields, *(name for name in found if name not in files)):
        raise RequestError(name, "", "no such part of this form", f"send {', '.join(('request', *files))}")
    if text is not None and not isinstance(text, str | bytes):
        raise RequestError("request", type(text).__name__, "must be JSON in one part", 'send for example {"seed": 7}')
    return None if text is None else from_json(text), found


def request_schema(
    plain: dict[str, Any], example: dict[str, Any], request: dict[str, Any], files: Sequence[str], needed: Sequence[str]
) -> dict[str, Any]:
    """Return `openapi_extra` for a body that is JSON, or a form of `files` with JSON in its part `request`."""
    parts = {"request": request} | {name: {"type": "string", "format": "binary"} for name in files}
    form = {"type": "object", "properties": parts, "required": list(needed), "additionalProperties": False}
    content = {
        "application/json": {"schema": plain, "example": example},
        "multipart/form-data": {"schema": form, "encoding": {"request": {"contentType": "application/json"}}},
    }
    return {"requestBody": {"required": True, "content": content}}


def from_json(data: bytes | str) -> dict[str, Any]:
    """Parse a JSON object. Raises RequestError for anything else, and for values that no store can hold."""
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RequestError("body", data[:60], "is not JSON", "send one object") from None
    if not isinstance(found, dict):
        raise RequestError("body", type(found).__name__, "must be an object", 'send for example {"prompt": "…"}')
    _check(found, "body", MAX_DEPTH)
    return found


def nested(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of a form as JSON would nest them.

    Raises RequestError for a name that is malformed, repeated, or both a value and an object.
    """
    tree: dict[str | int, Any] = {}
    seen: dict[str, int] = {}
    for name, value in items:
        _check(name, "body", 1)
        _check(value, name, 1)
        path = _path(name, seen.get(name, 0))
        seen[name] = seen.get(name, 0) + 1
        here = tree
        for step in path[:-1]:
            here = here.setdefault(step, {})
            if not isinstance(here, dict):
                raise RequestError(name, value, "is both a value and an object", "send it in one form")
        if path[-1] in here:
            raise RequestError(name, value, "is sent twice", "send it once")
        here[path[-1]] = value
    found: dict[str, Any] = {str(key): _listed(value) for key, value in tree.items()}
    return found


def _path(name: str, before: int) -> list[str | int]:
    """Return the path of a form field. Empty brackets are the list index that follows the `before` earlier ones."""
    match = _NAME.fullmatch(name)
    steps = match[2][1:-1].split("][") if match is not None and match[2] else []
    if match is None or len(steps) > _BRACKETS or steps.count("") > 1:
        raise RequestError("body", name, "is not a field name", "write name, name[], name[][key] or name[key]")
    if before >= _FIELDS:
        raise RequestError(name, before, "is sent too often", f"send {_FIELDS} or fewer")
    return [match[1], *(_step(step, before) for step in steps)]


def _step(text: str, before: int) -> str | int:
    if not text:
        return before
    return int(text) if _PLACE.fullmatch(text) else text


def _listed(tree: Any) -> Any:
    """Convert a dict whose keys are all indices to a list, in their order."""
    if not isinstance(tree, dict):
        return tree
    if all(isinstance(key, int) for key in tree):
        return [_listed(tree[key]) for key in sorted(tree)]
    return {str(key): _listed(value) for key, value in tree.items()}


def _files(items: Iterable[tuple[str, str | UploadFile]]) -> dict[str, UploadFile]:
    """Return the files by field name. A browser sends an empty file if none was chosen; it is ignored."""
    found: dict[str, UploadFile] = {}
    for name, value in items:
        if isinstance(value, str) or not (value.filename or value.size):
            continue
        _check(name, "body", 1)
        name = name.removesuffix("[]")
        if name in found:
            raise RequestError(name, value.filename, "is sent twice", "send one file")
        found[name] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _check(value: Any, name: str, depth: int) -> None:
    """Refuse lone surrogates and infinite numbers, which no store accepts, and values that are nested too deeply."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise RequestError(name, value, "contains a lone surrogate", "write it in UTF-8")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RequestError(name, value, "is too large", "send a finite number")
    elif isinstance(value, dict | list):
        if not depth:
            raise RequestError(name, "…", f"has more than {MAX_DEPTH} levels", "send fewer levels")
        if isinstance(value, dict):
            for key, each in value.items():
                _check(key, name, depth)
                _check(each, key, depth - 1)
        else:
            for each in value:
                _check(each, name, depth - 1)
