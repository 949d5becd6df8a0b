"""Drafts through the whole service: a true worker makes them, and what is finished is the film of one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.working import Working, working

FILM = {"prompt": "a red circle moving left", "num_inference_steps": 6, "num_frames": 4, "seed": 7}


def followed(service: Working, id: str) -> tuple[list[str], dict[str, Any]]:
    """The events of a job, and what it is at the end."""
    names: list[str] = []
    with service.http.stream("GET", f"/api/v1/jobs/{id}/events?previews=1") as response:
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                names.append(value)
            elif name == "data" and names[-1] == "done":
                found: dict[str, Any] = json.loads(value)
                return names, found
    raise AssertionError(names)


@pytest.mark.slow
def test_a_finished_draft_equals_the_uninterrupted_film(tmp_path: Path) -> None:
    with working(tmp_path) as service:
        whole = service.http.post("/api/v1/jobs", json=FILM).json()["id"]
        names, film = followed(service, whole)
        assert film["state"] == "completed", film["error"]
        assert {"state", "progress", "done"} <= set(names)
        drafts = service.http.post("/api/v1/drafts", json=FILM | {"seeds": [7, 8], "until": 0.5}).json()["data"]
        ends = [followed(service, draft["id"])[1] for draft in drafts]
        assert [end["state"] for end in ends] == ["completed"] * 2, ends
        shown = service.http.get(f"/api/v1/jobs/{drafts[0]['id']}/preview")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
        (rest,) = service.http.post("/api/v1/drafts/finish", json={"ids": [drafts[0]["id"]]}).json()["data"]
        _, finished = followed(service, rest["id"])
        assert finished["result"]["frames_sha256"] == film["result"]["frames_sha256"]
        assert finished["plan"] == film["plan"] and finished["parent"] == drafts[0]["id"]
