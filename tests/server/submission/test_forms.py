"""Forms with brackets and JSON say the same; what is neither is refused, and never more than that."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._qs import Querystring
from starlette.exceptions import HTTPException
from starlette.requests import Request

from flickbook.errors import RequestError
from flickbook.server.submission.forms import MAX_DEPTH, Body, body_of, from_json, nested

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)


def read(content: bytes, kind: str) -> Body:
    """What a request with this body says."""

    async def ask() -> Body:
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            sent = True
            return {"type": "http.request", "body": content, "more_body": False}

        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode("latin-1"))], "app": None}
        async with body_of(Request(scope, receive)) as body:
            return body

    return asyncio.run(ask())


def part(name: str, value: str, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'.encode()


def test_brackets_become_lists_and_objects() -> None:
    found = nested(
        [
            ("prompt", "a"),
            ("loras[][name]", "ink"),
            ("loras[][name]", "oil"),
            ("loras[][scale]", "1"),
            ("loras[][scale]", "0.5"),
            ("extra_params[seed]", "7"),
            ("sizes[1]", "b"),
            ("sizes[0]", "a"),
        ]
    )
    assert found == {
        "prompt": "a",
        "loras": [{"name": "ink", "scale": "1"}, {"name": "oil", "scale": "0.5"}],
        "extra_params": {"seed": "7"},
        "sizes": ["a", "b"],
    }


@given(
    st.lists(st.fixed_dictionaries({"name": PLAIN, "scale": PLAIN}), min_size=1, max_size=5),
    st.dictionaries(NAMES, PLAIN, min_size=1, max_size=5),
)
def test_bracket_names_of_the_openai_client_are_decoded(loras: list[dict[str, str]], more: dict[str, str]) -> None:
    fields = {"loras": loras, "extra_params": more, "prompt": "a"}
    assert nested(Querystring().stringify_items(fields, array_format="brackets")) == fields


@pytest.mark.parametrize(
    "items",
    [
        [("a", "1"), ("a", "2")],
        [("a", "1"), ("a[b]", "2")],
        [("a[b]", "1"), ("a", "2")],
        [("a[", "1")],
        [("[a]", "1")],
        [("a]b", "1")],
        [("a[][]", "1")],
        [("a[b][c][d][e][f]", "1")],
        [("", "1")],
        [("a\ud800", "1")],
        [("a", "\udfff")],
    ],
)
def test_a_form_with_conflicting_names_is_refused(items: list[tuple[str, str]]) -> None:
    with pytest.raises(RequestError):
        nested(items)


@given(st.lists(st.tuples(st.text("ab[]019", max_size=12), st.text(max_size=5)), max_size=8))
def test_any_form_is_decoded_or_refused(items: list[tuple[str, str]]) -> None:
    try:
        found = nested(items)
    except RequestError:
        return
    json.dumps(found)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'"a"',
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}",
    ],
)
def test_json_that_is_not_an_object_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError):
        from_json(text)


@given(st.binary(max_size=200))
def test_any_bytes_as_json_are_decoded_or_refused(data: bytes) -> None:
    with suppress(RequestError):
        from_json(data)


KINDS = ["multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "application/json"]
CHARSETS = ["utf-8", "hex", "idna", "utf-7", "undefined", "no-such", "unicode_escape", "utf-16", "zlib"]


@given(st.sampled_from(KINDS), st.sampled_from(CHARSETS), st.binary(max_size=300))
def test_any_bytes_as_any_body_are_decoded_or_refused(kind: str, charset: str, data: bytes) -> None:
    parts = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + data + b"\r\n--b--\r\n"
    for content in (data, parts):
        try:
            read(content, f"{kind}; charset={charset}")
        except RequestError:
            pass
        except HTTPException as error:
            assert error.status_code == 400


def test_files_and_fields_of_a_form_are_separated() -> None:
    content = part("prompt", "a") + part("video", "xyz", '; filename="f.mp4"') + part("none", "", '; filename=""')
    body = read(content + b"--b--\r\n", KINDS[0])
    assert body.fields == {"prompt": "a"} and not body.typed
    assert set(body.files) == {"video"}


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "multipart/mixed"])
def test_another_content_type_is_415(kind: str) -> None:
    with pytest.raises(HTTPException) as caught:
        read(b'{"prompt": "a"}', kind)
    assert caught.value.status_code == 415
