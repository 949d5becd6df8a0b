"""What every request passes: names, pages, ids, headers, errors; and what the service does by itself."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.server.live import Live, live

import flickbook.server
from flickbook.errors import JobConflict, MediaError, MissingExtra, OutputError, StoreError
from flickbook.server import app
from flickbook.server.operations.logs import Json, job_id

PACKAGE = Path(flickbook.server.__file__).parent


def failing(made: FastAPI) -> None:
    """Routes that fail in every way."""
    errors: dict[str, Exception] = {
        "conflict": JobConflict("job_1", "running", "retried", "wait"),
        "media": MediaError("/secret/given.png", "is no picture", "send a PNG"),
        "full": OutputError("/secret/film.mp4", os.strerror(28), "free some space"),
        "store": StoreError("/secret/x.db", "is locked", "wait"),
        "extra": MissingExtra("cv2", "finish"),
        "bug": ZeroDivisionError("secret thing"),
    }

    @made.get("/fail/{kind}")
    @made.get("/v1/fail/{kind}")
    async def fail(kind: str) -> None:
        job_id.set("job_" + "0" * 26)
        raise errors[kind]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    place = tmp_path_factory.mktemp("app")
    with live(place, failing, origins=("https://films.example", "http://localhost:3000")) as found:
        yield found


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:99", "[::1]:8000", "films.example", "FILMS.example", "127.5.5.5"]
)
def test_allowed_host_headers_are_accepted(service: Live, host: str) -> None:
    assert service.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "films.example.evil", "10.0.0.1", "localhost.", "[", "", "a@b:c"]
)
def test_other_host_headers_are_refused(service: Live, host: str) -> None:
    answer = service.get("/healthz", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")


def test_a_service_on_all_addresses_accepts_any_address(tmp_path: Path) -> None:
    with live(tmp_path, host="0.0.0.0") as wide:
        assert wide.get("/healthz", headers={"host": "10.1.2.3:8000"}).status_code == 200
        assert wide.get("/healthz", headers={"host": "evil.example"}).status_code == 421
        # It was not started by the command, which would have refused: even so nobody comes in without a key.
        assert wide.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"origin": "https://films.example"}, 404),
        ({"origin": "http://localhost:3000"}, 404),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:1"}, 403),
        ({"origin": "http://films.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 404),
    ],
)
def test_cross_origin_requests_cannot_change_anything(service: Live, headers: dict[str, str], status: int) -> None:
    for verb in ("POST", "PUT", "PATCH", "DELETE"):
        assert service.http.request(verb, service.url + "/api/v1/nothing", headers=headers).status_code == status
    own = {"origin": service.url}
    assert service.post("/api/v1/nothing", headers=own).status_code == 404


def test_cors_headers_are_sent_to_allowed_origins_only(service: Live, tmp_path: Path) -> None:
    headers = {"origin": "https://films.example", "access-control-request-method": "POST"}
    answer = service.http.options(service.url + "/v1/videos", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://films.example")
    assert "access-control-allow-credentials" not in answer.headers
    for origin in ("https://evil.example", "null"):
        answer = service.get("/healthz", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
    with live(tmp_path) as plain:
        assert "access-control-allow-origin" not in plain.get("/healthz", headers={"origin": "https://a.b"}).headers


def test_every_response_has_security_headers(service: Live) -> None:
    for path in ("/healthz", "/nothing", "/api/v1/jobs", "/fail/bug", "/openapi.json"):
        headers = service.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "private")


def test_request_id_of_the_client_is_kept_if_it_is_plain(service: Live) -> None:
    assert service.get("/healthz", headers={"x-request-id": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    for bad in ("a b", "x" * 65, "a\tb", '"', ""):
        made = service.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"]
        assert made != bad and len(made) == 24


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("conflict", 400, "job_state"),
        ("media", 400, "media"),
        ("full", 507, "output"),
        ("store", 503, "store"),
        ("extra", 501, "missing_extra"),
        ("bug", 500, "unexpected"),
    ],
)
def test_errors_have_one_form_and_reveal_no_internals(service: Live, kind: str, status: int, code: str) -> None:
    own, compatible = service.get(f"/fail/{kind}"), service.get(f"/v1/fail/{kind}")
    assert own.status_code == compatible.status_code == status
    assert set(own.json()["error"]) == {"code", "message", "field"}
    assert set(compatible.json()["error"]) == {"message", "type", "param", "code"}
    assert own.json()["error"]["code"] == compatible.json()["error"]["code"] == code
    assert "secret" not in own.text + compatible.text and "Traceback" not in own.text


def test_unexpected_errors_are_logged_with_traceback_and_ids(service: Live, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(Json().format(record)))

    handler = Kept()
    logging.getLogger("flickbook").addHandler(handler)
    try:
        answer = service.get("/fail/bug", headers={"x-request-id": "r1"})
    finally:
        logging.getLogger("flickbook").removeHandler(handler)
    assert "r1" in answer.json()["error"]["message"]
    (line,) = (each for each in lines if each["level"] == "error")
    assert (line["request_id"], line["job_id"]) == ("r1", "job_" + "0" * 26)
    assert "ZeroDivisionError: secret thing" in line["traceback"]


def test_the_openapi_document_has_only_our_error_schema(service: Live) -> None:
    document = service.get("/openapi.json").json()
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    for path, operations in document["paths"].items():
        for operation in operations.values():
            takes = any(each["name"] == "idempotency-key" for each in operation.get("parameters", ()))
            assert ("422" in operation["responses"]) == takes
        if "fail" not in path:
            for operation in operations.values():
                assert {"400", "429"} <= set(operation["responses"]), path
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_every_router_of_the_package_is_in_the_application() -> None:
    parts = [path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    names = [".".join(("flickbook.server", *each)) for each in parts if each[-1] != "__init__"]
    with_routes = {name for name in names if hasattr(import_module(name), "router")}
    assert with_routes == {each.__name__ for each in app._ROUTES}


@pytest.mark.slow
def test_the_application_loads_no_torch() -> None:
    program = (
        "import flickbook.server.run, sys; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
