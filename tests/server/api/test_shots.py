"""Films of several shots over HTTP: what is asked for, refused, and made by a true worker."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from tests.patience import PATIENCE
from tests.server.live import Live, live
from tests.server.working import working

from flickbook.store.base import DONE

PATH = "/api/v1/shots"
A, B = "a red circle on a blue background", "a yellow square on a green background"
QUICK: dict[str, Any] = {
    "defaults": {"num_frames": 3, "num_inference_steps": 2, "seed": 7},
    "shots": [{"prompt": A}, {"prompt": B, "camera": "zoom-in"}],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def body_of(response: httpx2.Response, status: int = 201) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (128, 128), "red").save(file, "PNG")
    return file.getvalue()


def test_a_film_of_shots_is_a_job(service: Live) -> None:
    response = service.post(PATH, json=QUICK | {"container": "webm", "fade": 1, "subjects": {"hero": "a star"}})
    job = body_of(response)
    assert response.headers["location"] == job["links"]["self"]
    assert (job["kind"], job["state"], job["seed"]) == ("shots", "queued", 7)
    plan = job["plan"]
    assert (plan["task"], plan["num_frames"], plan["fade"], plan["container"]) == ("shots", 5, 1, "webm")
    assert [shot["plan"]["seed"] for shot in plan["shots"]] == [7, 8]


def test_pictures_of_shots_are_parts_of_a_form(service: Live) -> None:
    fields = {"request": json.dumps(QUICK)}
    files = {"shot-2-image": ("start.png", picture(), "image/png")}
    job = body_of(service.post(PATH, data=fields, files=files))
    assert [bool(shot["plan"]["image"]) for shot in job["plan"]["shots"]] == [False, True]
    files = {"shot-3-image": ("start.png", picture(), "image/png")}
    assert body_of(service.post(PATH, data=fields, files=files), 400)["error"]["field"] == "shot-3-image"


def test_repeating_moves_the_seeds_of_all_shots(service: Live) -> None:
    job = body_of(service.post(PATH, json=QUICK))
    other = body_of(service.post(f"/api/v1/jobs/{job['id']}/again", json={"seed": 100}))
    assert other["kind"] == "shots" and [shot["plan"]["seed"] for shot in other["plan"]["shots"]] == [100, 101]
    refused = service.post(f"/api/v1/jobs/{job['id']}/again", json={"prompt": "x"})
    assert body_of(refused, 400)["error"]["field"] == "prompt"


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"shots": []}, "shots", 400),
        ({"shots": [{"prompt": A}] * 65}, "shots", 400),
        ({"shots": [{"prompt": A, "secnds": 1}]}, "option", 400),
        ({"shots": [{"prompt": A, "image": "/etc/passwd"}]}, "image", 400),
        ({"shots": [{"prompt": A, "lora": "/etc/passwd"}]}, "lora", 400),
        ({"shots": [{"prompt": A, "polish": {"image": "/etc/passwd"}}]}, "image", 400),
        ({"defaults": {"polish": {"upscale": 2, "upscaler": "/etc/passwd"}}}, "upscaler", 400),
        ({"shots": [{"prompt": A, "face_video": "/etc/passwd"}]}, "face_video", 400),
        ({"shots": [{"prompt": A, "loras": [{"name": "none"}]}]}, "loras", 400),
        ({"shots": [{"prompt": A}, {"prompt": B, "fps": 12}]}, "fps", 400),
        ({"shots": [{"prompt": A, "model": "nothing"}]}, "model", 404),
        ({"fade": 9}, "fade", 400),
        ({"width": 128}, "width", 400),
    ],
)
def test_an_invalid_list_is_refused_at_once(service: Live, fields: dict[str, Any], field: str, status: int) -> None:
    error = body_of(service.post(PATH, json=QUICK | fields), status)["error"]
    assert error["field"] == field and "\n" not in error["message"]


@pytest.mark.slow
def test_a_worker_completes_a_film_of_shots(tmp_path: Path) -> None:
    with working(tmp_path) as at:
        job = body_of(at.http.post(PATH, json=QUICK))
        until = time.monotonic() + PATIENCE
        while job["state"] not in DONE:
            assert time.monotonic() < until, job
            time.sleep(0.1)
            job = body_of(at.http.get(job["links"]["self"]), 200)
        assert job["state"] == "completed", job["error"]
        film = at.http.get(job["links"]["film"])
        assert film.headers["content-type"] == "video/mp4" and len(film.content) == job["result"]["bytes"]
        recipe = at.http.get(job["links"]["recipe"]).json()
        assert len(recipe["shots"]) == 2 and recipe["frames_sha256"] == job["result"]["frames_sha256"]
        assert at.http.get(job["links"]["thumbnail"]).status_code == 200
