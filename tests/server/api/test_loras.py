"""LoRAs over HTTP: listed and asked for by their names, and never by a path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.loras import adapter, write
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.files import sha256

JOBS = "/api/v1/jobs"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as found:
        yield found


@pytest.fixture
def ink(service: Live) -> Path:
    """A LoRA of the built-in model, where the service looks for it."""
    place = service.service.loras
    place.mkdir(parents=True)
    torch.manual_seed(0)
    made = adapter(TextToVideo.load(find("builtin").path()).unet, lambda name: name.endswith("to_q"))
    return write(place / "ink.safetensors", made, "diffusers")


def frames(service: Live, **fields: Any) -> str | None:
    """The hash of a film's frames."""
    response = service.post(JOBS, json=QUICK | fields)
    assert response.status_code == 201, response.text
    settled(service, response.json()["id"])
    found: str | None = service.get(response.json()["links"]["self"]).json()["result"]["frames_sha256"]
    return found


@pytest.mark.slow
def test_a_job_uses_a_lora_by_name(service: Live, ink: Path) -> None:
    assert service.get("/api/v1/loras").json() == {"object": "list", "data": ["ink"]}
    job = service.post(JOBS, json=QUICK | {"loras": [{"name": "ink", "weight": 1}]}).json()
    assert job["plan"]["loras"] == [{"name": "ink", "sha256": sha256(ink), "weight": 1.0}]
    again = service.post(f"{JOBS}/{job['id']}/again", json={}).json()
    assert again["plan"] == job["plan"]
    plain = frames(service)
    assert frames(service, loras=[{"name": "ink"}]) != plain
    assert frames(service, loras=[{"name": "ink", "weight": 0.0}]) == plain
    drafts = service.post("/api/v1/drafts", json=QUICK | {"seeds": 2, "loras": [{"name": "ink"}]}).json()["data"]
    assert [draft["plan"]["loras"][0]["name"] for draft in drafts] == ["ink", "ink"]
    assert service.post("/api/v1/estimate", json=QUICK | {"loras": [{"name": "ink"}]}).status_code == 200


def test_an_unknown_lora_is_refused_with_the_known_names(service: Live, ink: Path) -> None:
    (ink.parent.parent / "secret.safetensors").write_bytes(ink.read_bytes())
    for name in ("../secret", str(ink), "ink.safetensors", "", "*", "oil"):
        response = service.post(JOBS, json=QUICK | {"loras": [{"name": name}]})
        error = response.json()["error"]
        assert (response.status_code, error["field"]) == (400, "loras")
        assert "the service has ink" in error["message"]
    ink.unlink()
    assert service.get("/api/v1/loras").json()["data"] == []
