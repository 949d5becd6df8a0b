"""Sequences over HTTP: what is asked for, kept once, refused, and made by a true worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.patience import PATIENCE
from tests.server.live import Live, live
from tests.server.working import working

from flickbook.server.api.requests import Film, SequenceRequest
from flickbook.store.base import DONE

PATH = "/api/v1/sequences"
PROMPTS = ["a red circle on a blue background", "a yellow square on a green background"]
QUICK: dict[str, Any] = {"prompts": PROMPTS, "frames_per": 3, "num_inference_steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def body_of(response: httpx2.Response, status: int = 201) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def test_sequence_body_has_the_film_fields_that_apply_to_several_prompts() -> None:
    apart = {"prompt", "num_frames", "prompt_at", "strength", "polish", "conditions", "control", "latent_upsample"}
    own = {"prompts", "frames_per", "drift", "feedback", "precision", "priority", "expires_in"}
    assert set(SequenceRequest.model_fields) == set(Film.model_fields) - apart | own


def test_a_created_sequence_can_be_retrieved(service: Live) -> None:
    response = service.post(PATH, json=QUICK | {"drift": 1, "container": "webm", "priority": -2, "expires_in": 60})
    job = body_of(response)
    assert response.headers["location"] == job["links"]["self"]
    assert (job["kind"], job["state"], job["seed"], job["priority"]) == ("sequence", "queued", 7, -2)
    plan = job["plan"]
    assert (plan["task"], plan["num_frames"], plan["drift"], plan["feedback"]) == ("sequence", 6, 1.0, 0.0)
    assert [plan["prompt"], *(text for _, text in plan["prompt_at"])] == PROMPTS
    assert job["expires_at"] > job["created_at"] and plan["container"] == "webm"
    listed = body_of(service.get("/api/v1/jobs?kind=sequence"), 200)["data"]
    assert job["id"] in [each["id"] for each in listed]


def test_a_sequence_is_not_a_video_of_the_compatible_api(service: Live) -> None:
    job = body_of(service.post(PATH, json=QUICK))
    video = f"video_{job['id'].partition('_')[2]}"
    assert video not in [each["id"] for each in body_of(service.get("/v1/videos"), 200)["data"]]
    assert service.get(f"/v1/videos/{video}").status_code == 404
    assert service.post(f"/v1/videos/{video}/remix", json={"prompt": "a"}).status_code == 404


def test_same_idempotency_key_returns_the_same_job_and_refuses_another_body(service: Live) -> None:
    drawn = {name: value for name, value in QUICK.items() if name != "seed"}
    headers = {"idempotency-key": "once"}
    first = body_of(service.post(PATH, json=drawn, headers=headers))
    assert body_of(service.post(PATH, json=drawn, headers=headers))["id"] == first["id"]
    other = service.post(PATH, json=drawn | {"drift": 0.9}, headers=headers)
    assert other.status_code == 422 and other.json()["error"]["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"prompts": []}, "prompts", 400),
        ({"prompts": ["a"] * 65}, "prompts", 400),
        ({"prompts": "a"}, "prompts", 400),
        ({"prompts": ["a", ""]}, "prompt", 400),
        ({"prompts": ["a"], "frames_per": 1}, "frames_per", 400),
        ({"frames_per": 9999}, "frames_per", 400),
        ({"drift": 1.5}, "drift", 400),
        ({"feedback": 0.1}, "feedback", 400),
        ({"container": "png"}, "container", 400),
        ({"model": "wan-2.1-1.3b"}, "model", 400),
        ({"model": "nothing"}, "model", 404),
        ({"num_frames": 8}, "num_frames", 400),
        ({"image": "/etc/passwd"}, "image", 400),
        ({"width": 7}, "width", 400),
    ],
)
def test_an_invalid_sequence_is_refused_at_once(service: Live, fields: dict[str, Any], field: str, status: int) -> None:
    error = body_of(service.post(PATH, json=QUICK | fields), status)["error"]
    assert error["field"] == field and "\n" not in error["message"]


def test_a_positive_priority_needs_the_scope_admin(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, head = service.key("ada", "read", "create")
        error = body_of(service.post(PATH, json=QUICK | {"priority": 1}, headers=head), 400)["error"]
        assert error["field"] == "priority"


@pytest.mark.slow
def test_a_worker_completes_a_sequence_and_its_film_is_served(tmp_path: Path) -> None:
    with working(tmp_path) as at:
        job = body_of(at.http.post(PATH, json=QUICK))
        until = time.monotonic() + PATIENCE
        while job["state"] not in DONE:
            assert time.monotonic() < until, job
            time.sleep(0.1)
            job = body_of(at.http.get(job["links"]["self"]), 200)
        assert job["state"] == "completed" and job["result"]["scores"]["coherence"] > 0.5, job["error"]
        film = at.http.get(job["links"]["film"])
        assert film.headers["content-type"] == "video/mp4" and len(film.content) == job["result"]["bytes"]
        recipe = at.http.get(job["links"]["recipe"]).json()
        assert recipe["plan"] == job["plan"] and recipe["frames_sha256"] == job["result"]["frames_sha256"]
        assert at.http.get(job["links"]["thumbnail"]).status_code == 200
