"""Jobs whose model is not on the service's machine: refused at once, or queued behind the download of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.loopback_hub import Hub
from tests.server.api.test_pulls import WEIGHTS, online, serving, wait
from tests.server.live import live

from flickbook import catalogue
from flickbook.catalogue import find

__all__ = ["online"]
FILM: dict[str, Any] = {"prompt": "a red circle", "model": "tiny", "num_inference_steps": 1, "num_frames": 2}
MESSAGE = "tiny is not on this machine yet: 3.4 GB, CC-BY-NC-4.0; POST /api/v1/models/tiny/pull downloads it"


@pytest.fixture
def absent(online: Hub) -> Hub:
    """A hub with models whose size and licence are known."""
    for name in ("tiny", "lost"):
        catalogue.add(find(name).model_copy(update={"download_gb": 3.4, "licence": "CC-BY-NC-4.0"}))
    return online


def job(client: httpx2.Client, id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/jobs/{id}").json()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", FILM),
        ("/api/v1/drafts", FILM | {"seeds": 2}),
        ("/api/v1/sequences", {"prompts": ["a red circle"], "frames_per": 2, "model": "tiny"}),
        ("/api/v1/batches", {"rows": [{"prompt": "a red circle"}, FILM]}),
        ("/v1/videos", FILM),
        ("/v1/images/generations", {"prompt": "a red circle", "model": "tiny"}),
    ],
)
def test_every_route_refuses_a_model_that_is_not_installed(absent: Hub, tmp_path: Path, path: str, body: Any) -> None:
    with live(tmp_path) as service:
        response = service.post(path, json=body)
        error = response.json()["error"]
        assert error["code"] == "model_not_pulled" and error["message"] == MESSAGE
        if path.startswith("/v1/"):
            assert response.status_code == 400 and error["param"] == "model"
        else:
            assert response.status_code == 409
        assert error["pull"] == "/api/v1/models/tiny/pull"
        assert service.get("/api/v1/jobs").json()["data"] == [] and not absent.requests
        assert not [*(tmp_path / "jobs").glob("??/*")]


def test_a_missing_model_is_not_retried_by_the_openai_client(absent: Hub, tmp_path: Path) -> None:
    """It sends a request again that is answered with 409."""
    with live(tmp_path) as service, openai.OpenAI(base_url=f"{service.url}/v1", api_key="-", max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError, match="3.4 GB, CC-BY-NC-4.0") as caught:
            sdk.videos.create(prompt="a red circle", model="tiny")  # type: ignore[arg-type]
        assert caught.value.code == "model_not_pulled"
        assert caught.value.body["pull"] == "/api/v1/models/tiny/pull"  # type: ignore[index]


def test_retry_is_refused_while_the_model_is_missing(absent: Hub, tmp_path: Path) -> None:
    with live(tmp_path) as service:
        plan = service.job().plan.model_copy(update={"model": "tiny"})
        failed = service.job(state="failed", plan=plan)
        assert service.post(f"/api/v1/jobs/{failed.id}/retry").status_code == 409
        assert service.get(f"/api/v1/jobs/{failed.id}").json()["state"] == "failed"


@pytest.mark.slow
@pytest.mark.model
def test_with_pull_auto_a_job_waits_for_the_download(absent: Hub, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed service goes on with the download, and jobs of other models do not wait for it."""
    monkeypatch.setenv("FLICKBOOK_PULL", "auto")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "600")
    absent.stall_after[WEIGHTS] = 12_000_000
    with serving(data, workers=1) as (process, client):
        response = client.post("/api/v1/jobs", json=FILM)
        assert response.status_code == 201
        id = response.json()["id"]
        wait(lambda: ((job(client, id)["progress"] or {}).get("index") or 0) > 10_000_000)
        found = job(client, id)
        assert found["state"] == "queued" and found["progress"]["phase"] == "pull" and found["eta_seconds"] is None
        assert found["progress"]["total"] > found["progress"]["index"]
        with client.stream("GET", f"/api/v1/jobs/{id}/events") as stream:
            assert "event: progress" in stream.iter_lines()
        other = client.post("/api/v1/jobs", json=FILM | {"model": "builtin"}).json()["id"]
        wait(lambda: job(client, other)["state"] == "completed")
        assert job(client, id)["state"] == "queued" and job(client, id)["attempt"] == 0
        process.kill()
    with serving(data, workers=1) as (_, client):
        wait(lambda: job(client, id)["state"] in ("completed", "failed"))
        assert job(client, id)["state"] == "completed", job(client, id)["error"]
    assert absent.sent(WEIGHTS)[-1].startswith("bytes=1")


@pytest.mark.slow
def test_with_pull_auto_a_failed_download_fails_its_jobs(
    absent: Hub, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLICKBOOK_PULL", "auto")
    with serving(data) as (_, client):
        id = client.post("/v1/videos", json=FILM | {"model": "lost"}).json()["id"].replace("video_", "job_")
        wait(lambda: job(client, id)["state"] == "failed")
        error = job(client, id)["error"]
        assert error["code"] == "hub"
        assert error["message"].startswith("lost could not be downloaded: somebody/lost: no such repository")
        wait(lambda: not list((data / "jobs" / "pulls").glob("*")))
