"""Jobs over HTTP, asked of a true service: what is asked for, seen, changed, refused and forgotten."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from tests.contract.cases import CASES
from tests.server.live import Live, live
from tests.server.settled import QUICK, claimed, failed, settled

from flickbook import catalogue
from flickbook.jobs import queue
from flickbook.server.api.requests import Film, PolishOption
from flickbook.spec import Request
from flickbook.store.base import Result

JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="module")
def film(service: Live) -> dict[str, Any]:
    """A job that is done."""
    id = made(service)["id"]
    settled(service, id)
    return body_of(service.get(f"{JOBS}/{id}"))


def body_of(response: httpx2.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def made(service: Live, **fields: Any) -> Any:
    return body_of(service.post(JOBS, json=QUICK | fields), 201)


def refused(response: httpx2.Response, field: str | None, status: int = 400) -> str:
    error = body_of(response, status)["error"]
    assert set(error) == {"code", "message", "field"}
    assert error["field"] == field, error
    return str(error["message"])


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def test_job_body_has_every_request_field_except_paths() -> None:
    files = {"image", "video", "last_image", "reference_images", "control_video", "face_video", "mask"}
    assert set(Film.model_fields) == set(Request.model_fields) - files - {"shots", "fade", "latents", "overlap"}
    from flickbook.engine.polish import PolishOptions

    assert set(PolishOption.model_fields) == set(PolishOptions.__annotations__) - {"interpolator", "upscaler"}


def test_a_created_job_can_be_retrieved(service: Live) -> None:
    response = service.post(JOBS, json=QUICK | {"polish": {"loop": "pingpong"}, "expires_in": 60, "priority": -1})
    job = body_of(response, 201)
    assert response.headers["location"] == job["links"]["self"]
    assert (job["state"], job["kind"], job["seed"], job["priority"]) == ("queued", "film", 7, -1)
    assert job["plan"]["polish"]["loop"] == "pingpong" and job["expires_at"] > job["created_at"]
    again = body_of(service.get(job["links"]["self"]))
    assert again["plan"] == job["plan"]
    assert str(service.service.artifacts.root) not in response.text


def test_an_unset_seed_is_drawn_and_returned(service: Live) -> None:
    first, second = ({**QUICK, "seed": None} for _ in range(2))
    seeds = {body_of(service.post(JOBS, json=each), 201)["seed"] for each in (first, second)}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"num_frames": "16"}, "num_frames"),
        ({"num_frames": 0}, "num_frames"),
        ({"width": 7}, "width"),
        ({"image": "/etc/passwd"}, "image"),
        ({"last_image": "/etc/passwd"}, "last_image"),
        ({"conditions": [{"frame": 2}]}, "condition-0"),
        ({"loras": [{"name": "ink"}]}, "loras"),
        ({"loras": [{"name": "ink", "path": "/etc/passwd"}]}, "loras.0.path"),
        ({"loras": [{"name": "ink", "weight": 11}]}, "loras.0.weight"),
        ({"owner": "someone"}, "owner"),
        ({"state": "completed"}, "state"),
        ({"container": "frames"}, "container"),
        ({"until": 0.5}, "until"),
        ({"kind": "draft", "num_frames": 1}, "num_frames"),
        ({"polish": {"interpolator": "/etc/passwd", "interpolate": 2}}, "polish.interpolator"),
        ({"scheduler": "none"}, "scheduler"),
        ({"expires_in": -1}, "expires_in"),
        ({"prompt_at": [["2", "x"]]}, "prompt_at.0.0"),
    ],
)
def test_an_unsupported_option_is_refused_with_its_field(service: Live, fields: dict[str, Any], field: str) -> None:
    assert refused(service.post(JOBS, json=QUICK | fields), field)


def test_an_unknown_model_is_404(service: Live) -> None:
    assert "builtin" in refused(service.post(JOBS, json=QUICK | {"model": "builtim"}), "model", 404)
    assert refused(service.get("/api/v1/models/nothing"), "model", 404)


def test_an_uploaded_file_is_the_input_of_the_film(service: Live) -> None:
    parts = {"request": (None, json.dumps(QUICK), "application/json"), "image": ("../../x.png", picture(), "image/png")}
    job = body_of(service.post(JOBS, files=parts), 201)
    kept = list(service.service.artifacts.of(job["id"]).iterdir())
    assert [path.name for path in kept] == ["given-image.png"] and kept[0].read_bytes() == picture()
    assert len(job["plan"]["image"]) == 64


@pytest.mark.slow
def test_files_that_guide_a_film_are_parts_of_the_form(service: Live, data: Path, tmp_path: Path) -> None:
    case = next(each for each in CASES if each.build == "ltx_cond")
    case.save(tmp_path / "model")
    model = case.model(tmp_path / "model")
    catalogue.add(model.model_copy(update={"accepts": (*model.accepts, "condition_strength")}))
    wanted = {"prompt": "a bird", "model": "tiny-ltx_cond", "conditions": [{"frame": 4, "strength": 0.5}]}
    parts: dict[str, Any] = {"request": (None, json.dumps(wanted))}
    parts |= {name: ("x.png", picture()) for name in ("last_image", "condition-0")}
    job = body_of(service.post(JOBS, files=parts), 201)
    (placed,) = job["plan"]["conditions"]
    assert (placed["frame"], placed["strength"]) == (4, 0.5) and len(placed["image"]) == 64
    assert len(job["plan"]["last_image"]) == 64
    again = body_of(service.post(f"{JOBS}/{job['id']}/again", json={}), 201)
    assert again["plan"] == job["plan"]
    kept = sorted(path.name for path in service.service.artifacts.of(again["id"]).iterdir())
    assert kept == ["given-condition-0.png", "given-last_image.png"]
    del parts["condition-0"]
    assert "send the image" in refused(service.post(JOBS, files=parts), "condition-0")


@pytest.mark.parametrize(
    ("part", "field"),
    [("last_image", "last_image"), ("condition-0", "conditions"), ("reference-0", "reference_images")],
)
def test_a_guide_that_the_model_does_not_read_names_models_that_do(service: Live, part: str, field: str) -> None:
    before = service.service.artifacts.ids()
    parts = {"request": (None, json.dumps(QUICK)), part: ("x.png", picture())}
    assert "wan-2.1-vace-1.3b" in refused(service.post(JOBS, files=parts), field)
    assert service.service.artifacts.ids() == before


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"request": json.dumps(QUICK), "image": b"GIF89a nothing"}, "image"),
        ({"request": json.dumps(QUICK), "video": picture()}, "video"),
        ({"request": json.dumps(QUICK), "audio": picture()}, "audio"),
        ({"request": "{"}, "body"),
        ({"image": picture()}, "request"),
    ],
)
def test_a_refused_form_leaves_no_files(service: Live, parts: dict[str, Any], field: str) -> None:
    before = service.service.artifacts.ids()
    files = {name: (None if name == "request" else "x.png", value) for name, value in parts.items()}
    assert refused(service.post(JOBS, files=files), field)
    assert service.service.artifacts.ids() == before


def test_same_idempotency_key_returns_the_same_job(service: Live) -> None:
    head = {"idempotency-key": "mine"}
    first = body_of(service.post(JOBS, json=QUICK, headers=head), 201)
    assert body_of(service.post(JOBS, json=QUICK, headers=head), 201)["id"] == first["id"]
    other = service.post(JOBS, json=QUICK | {"seed": 8}, headers=head)
    assert body_of(other, 422)["error"]["field"] == "Idempotency-Key"


def test_jobs_are_listed_in_pages_and_by_state(service: Live) -> None:
    ids = [made(service)["id"] for _ in range(3)]
    page = body_of(service.get(JOBS, params={"limit": 2}))
    assert [job["id"] for job in page["data"]] == ids[:0:-1] and page["has_more"]
    after = body_of(service.get(JOBS, params={"limit": 1, "after": page["last_id"]}))
    assert after["data"][0]["id"] == ids[0]
    body_of(service.post(f"{JOBS}/{ids[0]}/pause"))
    paused = body_of(service.get(JOBS, params={"state": "paused"}))["data"]
    assert [job["id"] for job in paused] == [ids[0]]
    assert refused(service.get(JOBS, params={"state": "lost"}), "state.0")
    assert refused(service.get(JOBS, params={"after": "job_" + "0" * 26}), "id", 404)


def test_a_queued_job_can_be_reordered_paused_resumed_cancelled_and_retried(service: Live) -> None:
    first, last = made(service)["id"], made(service)["id"]
    body_of(service.post(f"{JOBS}/{last}/reorder", json={"before": first}))
    order = [job["id"] for job in body_of(service.get(JOBS, params={"order": "queue", "limit": 100}))["data"]]
    assert order.index(last) == order.index(first) - 1
    assert body_of(service.post(f"{JOBS}/{first}/priority", json={"priority": 5}))["priority"] == 5
    for verb, state in [("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued")]:
        assert body_of(service.post(f"{JOBS}/{first}/{verb}"))["state"] == state
    assert "queued" in refused(service.post(f"{JOBS}/{first}/retry"), "id")
    queue = body_of(service.get("/api/v1/queue"))
    assert queue["counts"]["queued"] >= 2


def test_a_queued_job_has_its_place_in_the_queue(service: Live) -> None:
    job = made(service, priority=90)
    service.app.state.line._look.at = 0.0
    assert body_of(service.get(f"{JOBS}/{job['id']}"))["place"] == 1


def test_jobs_are_found_by_words_of_their_prompt(service: Live) -> None:
    id = made(service, prompt="a yellow Triangle grows 100%")["id"]
    for text in ("YELLOW", "triangle GROWS", "0%"):
        assert [job["id"] for job in body_of(service.get(JOBS, params={"text": text}))["data"]] == [id]
    assert body_of(service.get(JOBS, params={"text": "yellow%"}))["data"] == []
    assert body_of(service.get(JOBS, params={"text": "yellow", "favourite": True}))["data"] == []
    assert refused(service.get(JOBS, params={"text": "x" * 201}), "text")


def test_favourites_are_marked_and_listed(service: Live) -> None:
    ids = [made(service)["id"] for _ in range(4)]
    for id in ids[:3]:
        assert body_of(service.post(f"{JOBS}/{id}/favourite", json={"favourite": True}))["favourite"]
    assert not body_of(service.post(f"{JOBS}/{ids[1]}/favourite", json={"favourite": False}))["favourite"]
    listed = body_of(service.get(JOBS, params={"limit": 4}))["data"]
    assert [job["favourite"] for job in listed] == [False, True, False, True]
    assert body_of(service.get(f"{JOBS}/{ids[0]}"))["favourite"]
    page = body_of(service.get(JOBS, params={"favourite": True, "limit": 1}))
    assert [job["id"] for job in page["data"]] == [ids[2]] and page["has_more"]
    after = body_of(service.get(JOBS, params={"favourite": True, "after": page["last_id"]}))
    assert [job["id"] for job in after["data"]] == [ids[0]] and not after["has_more"]
    body_of(service.delete(f"{JOBS}/{ids[2]}"))
    assert [job["id"] for job in body_of(service.get(JOBS, params={"favourite": True}))["data"]] == [ids[0]]
    assert refused(service.post(f"{JOBS}/{ids[0]}/favourite", json={"favourite": 1}), "favourite")


def test_a_job_is_deleted_with_its_files(service: Live) -> None:
    id = made(service)["id"]
    service.service.artifacts.log(id, "said")
    assert body_of(service.delete(f"{JOBS}/{id}")) == {"id": id, "object": "job.deleted", "deleted": True}
    assert not service.service.artifacts.of(id).exists()
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/log"), ("GET", "/film")]:
        assert refused(httpx2.request(method, f"{service.url}{JOBS}/{id}{path}"), "id", 404)


def test_the_error_of_a_failed_job_contains_no_paths(service: Live) -> None:
    id = made(service)["id"]
    place = service.service.artifacts.of(id)
    service.service.artifacts.log(id, f"opened {place}/given-image.png")
    failed(service, id, f"{place}/given-image.png: is gone")
    job = body_of(service.get(f"{JOBS}/{id}"))
    assert (job["state"], job["error"]["message"]) == ("failed", "given-image.png: is gone")
    assert service.get(f"{JOBS}/{id}/log").text.endswith("opened given-image.png\n")


def test_a_completed_job_has_recipe_run_and_hashes(service: Live, film: dict[str, Any]) -> None:
    assert film["state"] == "completed" and film["result"]["media_type"] == "video/mp4"
    recipe = body_of(service.get(film["links"]["recipe"]))
    assert recipe["frames_sha256"] == film["result"]["frames_sha256"] and recipe["plan"] == film["plan"]
    assert body_of(service.get(film["links"]["run"]))["seconds"]["denoise"] > 0


def test_the_result_has_the_size_of_the_polished_film(service: Live, film: dict[str, Any]) -> None:
    def size(job: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(job["result"][name] for name in ("width", "height", "num_frames", "fps"))

    assert size(film) == (128, 128, 4, 8.0)
    id = made(service, polish={"interpolate": "2x", "upscale": "2x"})["id"]
    assert body_of(service.get(f"{JOBS}/{id}"))["result"] is None
    settled(service, id)
    assert size(body_of(service.get(f"{JOBS}/{id}"))) == (256, 256, 8, 16.0)
    facts = body_of(service.post("/api/v1/recipes/inspect", files={"file": service.get(f"{JOBS}/{id}/film").content}))
    assert (facts["width"], facts["height"], facts["frames"], facts["fps"]) == (256, 256, 8, 16.0)


def test_the_result_of_a_draft_has_its_unpolished_size(service: Live) -> None:
    id = made(service, kind="draft", polish={"interpolate": "2x", "upscale": "2x"})["id"]
    done = queue.completed(claimed(service, id), Result(path="film-1.webp", bytes=1))
    service.ask(service.service.store.settle(id, 1, done))
    result = body_of(service.get(f"{JOBS}/{id}"))["result"]
    assert [result[name] for name in ("width", "height", "num_frames", "fps")] == [128, 128, 4, 8.0]


def test_inspect_returns_the_recipe_of_an_uploaded_film(service: Live, film: dict[str, Any]) -> None:
    data = service.get(film["links"]["film"]).content
    found = body_of(service.post("/api/v1/recipes/inspect", files={"file": ("x.mp4", data)}))
    assert found["recipe"]["plan"] == film["plan"] and found["sha256"] == film["result"]["sha256"]
    assert "/" not in refused(service.post("/api/v1/recipes/inspect", files={"file": ("x", b"nothing")}), "file")


def test_drafts_are_created_and_chosen_ones_finished(service: Live, film: dict[str, Any]) -> None:
    drafts = body_of(service.post("/api/v1/drafts", json=QUICK | {"seeds": 3, "until": 0.5}), 201)["data"]
    assert [draft["seed"] for draft in drafts] == [7, 8, 9] and {draft["until"] for draft in drafts} == {0.5}
    chosen = drafts[1]["id"]
    assert "finished yet" in refused(service.post("/api/v1/drafts/finish", json={"ids": [chosen]}), "id")
    settled(service, chosen)
    (rest,) = body_of(service.post("/api/v1/drafts/finish", json={"ids": [chosen]}), 201)["data"]
    assert (rest["kind"], rest["parent"], rest["plan"]) == ("film", chosen, drafts[1]["plan"])
    assert "draft" in refused(service.post("/api/v1/drafts/finish", json={"ids": [film["id"]]}), "id")
    listed = body_of(service.post("/api/v1/drafts", json=QUICK | {"seeds": [5, 3]}), 201)["data"]
    assert [draft["seed"] for draft in listed] == [5, 3]


def test_jobs_of_another_owner_are_invisible(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        (_, mine), (_, other), (_, low) = (
            service.key("mine", "read", "create"),
            service.key("other", "read", "create"),
            service.key("low", "read"),
        )
        id = body_of(service.post(JOBS, json=QUICK, headers=mine), 201)["id"]
        assert body_of(service.get(f"{JOBS}/{id}", headers=mine))["id"] == id
        for path in (f"{JOBS}/{id}", f"{JOBS}/{id}/log", f"{JOBS}/{id}/events"):
            assert refused(service.get(path, headers=other), "id", 404)
        assert refused(service.post("/api/v1/drafts/finish", json={"ids": [id]}, headers=other), "id", 404)
        assert body_of(service.get(JOBS, headers=other))["data"] == []
        queue = body_of(service.get("/api/v1/queue", headers=other))
        assert (queue["counts"]["queued"], queue["eta_seconds"]) == (0, 0.0)
        assert service.post(f"{JOBS}/{id}/cancel", headers=low).status_code == 403
        assert "admin" in refused(service.post(JOBS, json=QUICK | {"priority": 1}, headers=mine), "priority")
        assert service.get(f"{JOBS}/{id}").status_code == 401


@pytest.mark.slow
def test_models_and_machine_endpoints_do_not_import_torch(tmp_path: Path) -> None:
    """In a process of its own, as the tests' own process computes too."""
    program = """
import sys
from pathlib import Path
from tests.server.live import live
with live(Path(sys.argv[1])) as service:
    names = [model["name"] for model in service.get("/api/v1/models").json()["data"]]
    assert names[0] == "builtin" and service.get("/api/v1/models/builtin").json()["here"]
    assert service.get("/api/v1/machine").json()["cores"] > 0
    found = service.post("/api/v1/estimate", json={"prompt": "a red circle", "num_frames": 8}).json()
    assert found["fits"] and found["peak"] > 0 and found["plan"]["num_frames"] == 8, found
    assert found["notes"] == []
    (note,) = service.post("/api/v1/estimate", json={"prompt": "a red circl"}).json()["notes"]
    assert 'did not learn "circl" (nearest: "circle")' in note
    job = service.post("/api/v1/jobs", json={"prompt": "a red circle"}).json()
    assert service.get(job["links"]["self"]).json()["state"] == "queued"
print("torch" in sys.modules)
"""
    root = Path(__file__).parents[3]
    words = [sys.executable, "-c", program, str(tmp_path)]
    ran = subprocess.run(words, cwd=root, capture_output=True, text=True, env={"PYTHONPATH": str(root / "src")})
    assert ran.stdout.strip() == "False", ran.stderr
