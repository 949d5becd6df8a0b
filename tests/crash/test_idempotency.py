"""One Idempotency-Key acts once on every route, also while a server is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import idempotency
from tests.crash.ward import Ward

from flickbook import settings
from flickbook.jobs.artifacts import ArtifactStore
from flickbook.store.sqlite.store import SqliteStore

pytest.importorskip("fastapi")

#: Routes that take the header and are not tried; tests/server/submission/test_idempotency.py has them.
ELSEWHERE = {
    "/api/v1/tunes",
    "/api/v1/jobs/{id}/links",
    "/api/v1/jobs/{id}/resume",
    "/api/v1/jobs/{id}/retry",
    "/api/v1/webhooks",
    "/v1/webhook_endpoints",
}


def test_the_matrix_has_every_route_that_takes_the_header(tmp_path: Path) -> None:
    from flickbook.server.app import create_app
    from flickbook.server.service import Service

    service = Service(SqliteStore(tmp_path / "jobs.db"), ArtifactStore(tmp_path), settings.load(), port=0)
    paths = create_app(service).openapi()["paths"]
    taking = {
        path
        for path, operations in paths.items()
        if any(each["name"].lower() == "idempotency-key" for each in operations.get("post", {}).get("parameters", ()))
    }
    posts = {path for path, operations in paths.items() if "post" in operations}
    assert posts - taking == {"/api/v1/estimate", "/api/v1/recipes/inspect", "/api/v1/tunes/check"}, (
        "these change nothing"
    )
    assert taking == set(idempotency.ROUTES) | ELSEWHERE


@pytest.mark.slow
def test_one_key_acts_once_on_every_route(serving: Ward, tmp_path: Path) -> None:
    found = idempotency.run(serving, tmp_path / "idempotency", 3)
    assert found.faults == [] and found.kills == len(idempotency.ROUTES)
