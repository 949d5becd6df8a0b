"""The same once more, over HTTP: what is copied, what is drawn anew, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

from flickbook.engine.kept_latents import KeptLatents
from flickbook.errors import RequestError
from flickbook.jobs.create import ordered
from flickbook.server.submission import revisions
from flickbook.spec import Plan, Request
from flickbook.store.base import Job, new_id

JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def body_of(response: httpx2.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def made(service: Live, **fields: Any) -> Any:
    return body_of(service.post(JOBS, json=QUICK | fields), 201)


def again(service: Live, id: str, **fields: Any) -> Any:
    response = service.post(f"{JOBS}/{id}/again", json=fields)
    found = body_of(response, 201)
    assert response.headers["location"] == found["links"]["self"] and found["id"] != id
    assert found["state"] == "queued"
    return found


def picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def of_command(service: Live, **fields: Any) -> Job:
    """A job as a command keeps it, which no worker takes."""
    job = ordered(Request.of(**{**QUICK, **fields}), home="command")
    (added,) = service.ask(service.service.store.add([job]))
    return added


def test_repeating_a_job_makes_the_same_film(service: Live) -> None:
    first = made(service, polish={"loop": "pingpong"}, container="webm")
    second = again(service, first["id"])
    assert (second["plan"], second["kind"]) == (first["plan"], "film")
    frames = [settled(service, each["id"]).result for each in (first, second)]
    assert frames[0] is not None and frames[1] is not None
    assert frames[0].sidecar.recipe is not None and frames[1].sidecar.recipe is not None
    assert frames[0].sidecar.recipe.frames_sha256 == frames[1].sidecar.recipe.frames_sha256


def test_a_repeat_draws_a_seed_for_null_and_uses_a_given_one(service: Live) -> None:
    id = made(service)["id"]
    assert len({7, again(service, id, seed=None)["seed"], again(service, id, seed=None)["seed"]}) == 3
    assert again(service, id, seed=11)["seed"] == 11
    other = again(service, id, prompt="a blue square")
    assert (other["prompt"], other["seed"], other["plan"]["num_frames"]) == ("a blue square", 7, 4)
    assert service.post(f"{JOBS}/{id}/again", json={"prompt": ""}).json()["error"]["field"] == "prompt"


def test_repeats_of_images_and_drafts_keep_their_kind(service: Live) -> None:
    one = made(service, kind="picture", num_frames=None)
    assert again(service, one["id"])["kind"] == "picture"
    draft = made(service, kind="draft", until=0.5)
    found = again(service, draft["id"], seed=8)
    assert (found["kind"], found["until"], found["seed"]) == ("draft", 0.5, 8)


def test_a_repeated_sequence_keeps_all_prompts(service: Live) -> None:
    body = {"prompts": ["a red circle", "a blue square"], "frames_per": 2, "drift": 0.5, "num_inference_steps": 2}
    parent = body_of(service.post("/api/v1/sequences", json=body), 201)
    found = again(service, parent["id"])
    assert found["kind"] == "sequence" and found["plan"] == parent["plan"]
    other = again(service, parent["id"], prompt="a green star", seed=4)
    assert (other["prompt"], other["seed"], other["plan"]["prompt_at"]) == (
        "a green star",
        4,
        parent["plan"]["prompt_at"],
    )


def test_a_repeat_keeps_the_input_file_of_a_deleted_job(service: Live) -> None:
    parts = {"request": (None, json.dumps(QUICK), "application/json"), "image": ("x.png", picture(), "image/png")}
    first = body_of(service.post(JOBS, files=parts), 201)
    second = again(service, first["id"], prompt="a blue square")
    service.delete(f"{JOBS}/{first['id']}")
    third = again(service, second["id"])
    assert third["plan"]["image"] == first["plan"]["image"]
    kept = service.service.artifacts.of(third["id"]) / "given-image.png"
    assert kept.read_bytes() == picture()


def test_an_extension_can_be_repeated(service: Live) -> None:
    film = made(service)["id"]
    settled(service, film)
    body = {"prompt": "a red circle", "video": {"id": f"video_{film[4:]}"}, "num_inference_steps": 2, "num_frames": 4}
    id = f"job_{body_of(service.post('/v1/videos/extensions', json=body))['id'][6:]}"
    found = again(service, id)
    assert (found["kind"], found["parent"]) == ("extension", film)
    names = sorted(path.name for path in service.service.artifacts.of(found["id"]).iterdir())
    assert names == ["given-latents.safetensors", "given-parent.mp4"]
    job = service.ask(service.service.queue.job(found["id"]))
    assert (job.plan.overlap, job.plan.num_frames, job.plan.polish.trim) == (4, 8, (4, 8)) and job.plan.latents
    parent = service.ask(service.service.queue.job(id))
    remake = partial(revisions.again, service.service, parent=parent, prompt=None, seed=3, owner="")
    assert remake(id=new_id("job"), polish_options={"text": "again"}).plan.polish.trim == (4, 8), (
        "shared frames are shown once"
    )
    with pytest.raises(RequestError, match="trim"):
        remake(id=new_id("job"), polish_options={"trim": "0:1"})


def test_an_extension_begins_from_the_last_frame_if_the_latents_do_not_fit(service: Live) -> None:
    looped, plain = made(service, polish={"loop": "pingpong"})["id"], made(service)["id"]
    for id in (looped, plain):
        settled(service, id)
    body = {"prompt": "a red circle", "num_inference_steps": 2, "num_frames": 4}

    def extended(parent: str, **changes: object) -> Plan:
        sent = {**body, "video": {"id": f"video_{parent[4:]}"}, **changes}
        id = body_of(service.post("/v1/videos/extensions", json=sent))["id"]
        return service.ask(service.service.queue.job(f"job_{id[6:]}")).plan

    assert extended(plain).latents and not extended(looped).latents and extended(looped).image
    (path,) = service.service.artifacts.of(plain).glob("film-*.safetensors")
    right, kept = path.read_bytes(), KeptLatents.read(path)
    path.write_bytes(replace(kept, frames_sha256="0" * 64).to_bytes())
    assert not extended(plain).latents, "latents of another film"
    path.write_bytes(right)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    plan = extended(plain)
    assert plan.image and not plan.latents and plan.num_frames == 4


def test_the_repeat_of_a_commands_job_is_queued(service: Live, tmp_path: Path) -> None:
    start = tmp_path / "start.png"
    start.write_bytes(picture())
    first = of_command(service, image=str(start))
    found = again(service, first.id)
    job = service.ask(service.service.queue.job(found["id"]))
    assert (job.home, job.output, job.plan) == ("queue", "", first.plan)
    assert Path(str(job.request.image)).parent == service.service.artifacts.of(job.id)
    start.write_bytes(picture("blue"))
    before = service.service.artifacts.ids()
    error = service.post(f"{JOBS}/{first.id}/again", json={}).json()["error"]
    assert error["field"] == "image" and "changed" in error["message"]
    start.unlink()
    error = service.post(f"{JOBS}/{first.id}/again", json={}).json()["error"]
    assert error["field"] == "image" and "deleted" in error["message"] and str(tmp_path) not in error["message"]
    assert service.service.artifacts.ids() == before


def test_same_idempotency_key_returns_the_same_repeat(service: Live) -> None:
    id, path = made(service)["id"], f"{JOBS}/{{}}/again"
    for number, body in enumerate(({}, {"seed": None}, {"prompt": "a blue square"})):
        head = {"idempotency-key": f"again-{number}"}
        first = body_of(service.post(path.format(id), json=body, headers=head), 201)
        assert body_of(service.post(path.format(id), json=body, headers=head), 201)["id"] == first["id"]
        other = service.post(path.format(id), json={"prompt": "a green triangle"}, headers=head)
        assert body_of(other, 422)["error"]["field"] == "Idempotency-Key"
