"""The studio's endpoint, asked by `gradio_client` as its users ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from tests.server.live import Live, live
from tests.server.working import working_processes

from flickbook.web.mount import mount

QUICK = {"num_inference_steps": 2, "num_frames": 4, "seed": 7}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endpoint")


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[Live]:
    with live(place, mount, workers=1, accounts={}) as found, working_processes(1, place):
        yield found


def client(service: Live, **headers: str) -> Client:
    return Client(f"{service.url}/studio/", verbose=False, headers=headers, analytics_enabled=False)


@pytest.mark.slow
def test_a_film_comes_back_as_a_link_with_its_recipe(service: Live) -> None:
    asking = client(service).submit(prompt="a red circle moving left", api_name="/generate", **QUICK)
    made = asking.result(60)
    updates = asking.outputs()
    assert updates[0]["state"] in ("queued", "running") and updates[-1]["state"] == "completed"
    assert made["recipe"]["plan"]["seed"] == 7 and made["fraction"] == 1.0
    film = httpx2.get(service.url + made["film"])
    assert film.status_code == 200 and film.headers["content-type"] == "video/mp4"
    # It is a job like any other.
    assert service.get(f"/api/v1/jobs/{made['id']}").json()["state"] == "completed"


@pytest.mark.slow
def test_what_is_refused_is_told_in_one_line(service: Live) -> None:
    with pytest.raises(AppError, match="num_frames=100000: must be 1 to 256"):
        client(service).predict(prompt="a red circle", num_frames=100_000, api_name="/generate")


def test_it_is_the_one_endpoint(service: Live) -> None:
    description = client(service).view_api(return_format="dict")
    assert list(description["named_endpoints"]) == ["/generate"] and not description["unnamed_endpoints"]


@pytest.mark.slow
def test_a_key_makes_films_of_its_owner(tmp_path: Path) -> None:
    with live(tmp_path, mount) as service, working_processes(1, tmp_path):
        _, ada = service.key("ada")
        _, bob = service.key("bob")
        made = client(service, **ada).predict(prompt="a red circle", api_name="/generate", **QUICK)
        assert service.get(f"/api/v1/jobs/{made['id']}", headers=ada).status_code == 200
        assert service.get(f"/api/v1/jobs/{made['id']}", headers=bob).status_code == 404
        _, reader = service.key("carol", "read")
        with pytest.raises(Exception, match="403|create"):
            client(service, **reader).predict(prompt="a red circle", api_name="/generate", **QUICK)


@pytest.mark.slow
def test_seconds_that_are_used_up_count_here_too(tmp_path: Path) -> None:
    with live(tmp_path, mount) as service:
        key, headers = service.key("ada", quota=1.0)
        job = service.job(owner=key.owner)
        service.ask(service.service.store.change(job.id, ("queued",), {"seconds": 5.0}))
        with pytest.raises(AppError, match="5 s of 1 s of device time were used"):
            client(service, **headers).predict(prompt="a red circle", api_name="/generate", **QUICK)
