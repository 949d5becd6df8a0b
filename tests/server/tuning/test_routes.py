"""Trainings over HTTP: a dataset is sent, checked, trained by a true worker, and its LoRA used by its owner alone."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, load_file
from tests.patience import until
from tests.server.live import Live, live
from tests.server.tuning.uploads import PATH, QUICK, sent
from tests.server.working import working

from flickbook import catalogue
from flickbook.cli.tune import tune
from flickbook.files import sha256
from flickbook.jobs.artifacts import NETWORK
from flickbook.learn.distillation.student import lines_of
from flickbook.learn.tuning.config import TuneConfig
from flickbook.server.service import MAX_DATASET_FILES
from flickbook.server.tuning.requests import TuneRequest


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def stored(service: Live) -> list[str]:
    return service.service.artifacts.ids()


@pytest.mark.parametrize("model", ["builtin", "wan-2.1-1.3b"])
def test_defaults_are_those_of_the_command(model: str) -> None:
    """Of the fields whose default depends on the model, the command leaves the choice to the same function."""
    config = TuneRequest(name="x").config(model)
    command = {name: each.default for name, each in inspect.signature(tune).parameters.items()}
    shared = {name for name in vars(config) if name in command and hasattr(TuneRequest(name="x"), name)}
    assert len(shared) > 10
    assert all(getattr(config, name) == command[name] for name in shared if command[name] is not None)
    assert TuneRequest(name="x").sample_every == command["sample_every"]


def test_a_training_is_queued_with_its_clips_in_its_own_directory(service: Live) -> None:
    extra = {"metadata.csv": b"file_name,text\n../../000.mp4,a pink star\n/etc/passwd,nothing\n"}
    response = service.post(PATH, **sent(extra=extra, priority=-1, lr=1))
    assert response.status_code == 201, response.text
    job = response.json()
    assert response.headers["location"] == job["links"]["self"]
    assert (job["kind"], job["state"], job["lora"], job["priority"]) == ("tune", "queued", "zigzag", -1)
    assert job["prompt"] == "a pink star" and job["plan"]["num_frames"] == 5
    clips = service.service.artifacts.of(job["id"]) / "clips"
    assert sorted(path.name for path in clips.iterdir()) == [
        *("000.mp4", "000.txt", "001.mp4", "001.txt", "metadata.csv"),
    ]
    stored_job = service.ask(service.service.queue.job(job["id"]))
    assert stored_job.tuning is not None and stored_job.tuning.clips == str(clips)
    assert TuneConfig(**stored_job.tuning.config).lr == 1.0  # type: ignore[arg-type]
    assert [each["id"] for each in service.get("/api/v1/jobs?kind=tune").json()["data"]] == [job["id"]]
    assert job["id"][4:] not in service.get("/v1/videos").text
    assert service.get(f"/api/v1/jobs/{job['id']}/lora").status_code == 400  # its state, as of all files of jobs
    again = service.post(f"/api/v1/jobs/{job['id']}/again", json={})
    assert again.status_code == 400 and "POST /api/v1/tunes" in again.json()["error"]["message"]
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        assert service.post(f"/api/v1/jobs/{job['id']}/{action}").json()["state"] == state
    service.delete(f"/api/v1/jobs/{job['id']}")
    assert not clips.exists()


def test_prior_prompts_lie_beside_the_clips_and_go_with_them(service: Live) -> None:
    job = service.post(PATH, **sent(prior_prompts=["a cat", "a dog\nin\u2028the rain"], prior=2)).json()
    tuning = service.ask(service.service.queue.job(job["id"])).tuning
    assert tuning is not None and TuneConfig(**tuning.config).prior == 2  # type: ignore[arg-type]
    known = service.service.artifacts.of(job["id"]) / "prior.txt"
    assert tuning.prior_prompts == str(known) and lines_of(known) == ["a cat", "a dog in the rain"]
    service.delete(f"/api/v1/jobs/{job['id']}")
    assert not known.exists()


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"name": "../x"}, "name", 400),
        ({"rank": 0}, "rank", 400),
        ({"iterations": "9"}, "iterations", 400),
        ({"full": True, "prior": 1}, "prior", 400),
        ({"full": True, "prior_prompts": ["a cat"]}, "prior_prompts", 400),
        ({"model": "wan-2.1-1.3b", "prior": 1}, "prior_prompts", 400),
        ({"prior_prompts": ["a cat", " \n"]}, "prior_prompts.1", 400),
        ({"prior_prompts": []}, "prior_prompts", 400),
        ({"prior_prompts": ["a cat"] * 1001}, "prior_prompts", 400),
        ({"model": "nobody"}, "model", 404),
        ({"model": "stable-video-diffusion"}, "model", 400),
        ({"model": "wan-2.1-1.3b"}, "model", 409),
        ({"width": 72}, "width", 400),
        ({"priority": 200}, "priority", 400),
    ],
)
def test_a_wrong_setting_is_refused_and_leaves_nothing(
    service: Live, fields: dict[str, Any], field: str, status: int
) -> None:
    before = stored(service)
    response = service.post(PATH, **sent(**fields))
    assert response.status_code == status and response.json()["error"]["field"] == field, response.text
    assert stored(service) == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "missing from the form"),
        ({"a.exe": b"x"}, "is neither a clip nor a caption"),
        ({".a.mp4": b"x"}, "hidden file"),
        ({"a.mp4": b"x", "A.mp4": b"x"}, "is sent twice"),
        ({"a.mp4": b"not a film", "a.txt": b"a red circle"}, "has no usable clip"),
        ({"videos.txt": b"/etc/passwd\n", "prompts.txt": b"a red circle\n"}, "has no usable clip"),
        ({"videos.txt": b"a.mp4\n"}, "no captions"),
    ],
)
def test_wrong_files_are_refused_without_a_path_of_the_service(
    service: Live, files: dict[str, bytes], message: str
) -> None:
    before = stored(service)
    for path in (PATH, f"{PATH}/check"):
        response = (
            service.post(path, **sent(0, files)) if files else service.post(path, files={"request": (None, "{}")})
        )
        error = response.json()["error"]
        if files:
            assert (response.status_code, error["field"]) == (400, "files") and message in error["message"], error
        assert str(service.service.artifacts.root) not in error["message"] and "\n" not in error["message"]
    assert stored(service) == before


def test_too_many_files_and_json_bodies_are_refused(service: Live) -> None:
    many = {f"{number}.txt": b"x" for number in range(MAX_DATASET_FILES + 1)}
    response = service.post(PATH, **sent(0, many))
    assert response.status_code == 400 and str(MAX_DATASET_FILES) in response.json()["error"]["message"]
    assert service.post(PATH, json=QUICK).status_code == 415


def test_an_equal_request_under_one_idempotency_key_is_one_training(service: Live) -> None:
    key = {"Idempotency-Key": "one"}
    first = service.post(PATH, headers=key, **sent()).json()["id"]
    assert service.post(PATH, headers=key, **sent()).json()["id"] == first
    renamed = sent()
    renamed["files"] = [(name, (f"x{file}", content)) for name, (file, content) in renamed["files"]]
    assert service.post(PATH, headers=key, **renamed).status_code == 422


@pytest.mark.slow
def test_a_check_reports_the_dataset_and_stores_nothing(service: Live) -> None:
    before = stored(service)
    response = service.post(f"{PATH}/check", **sent(3, {"002.txt": b"  "}))
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["layout"], found["clips"], found["captions"]) == ("pairs", 2, 2)
    assert found["problems"] == [{"where": "002.mp4", "reason": "its caption is empty", "rule": "skipped"}]
    assert found["buckets"] == [{"num_frames": 5, "width": 128, "height": 128, "captions": 2}]
    assert 0 < found["memory_bytes"] < found["free_bytes"] and found["hours"] > 0
    few = service.post(f"{PATH}/check", **sent(3, {"002.txt": b"  "}, prior_prompts=["a cat"], prior=2)).json()
    assert 0 < few["examples_bytes"] < found["examples_bytes"] < found["memory_bytes"]
    assert stored(service) == before and "directory" not in found


@pytest.mark.slow
def test_a_finished_lora_is_used_by_name_downloaded_and_private(tmp_path: Path) -> None:
    with working(tmp_path) as at:
        keys = {name: at.live.key(name)[1] for name in ("ada", "bob")}
        ada, bob = {"headers": keys["ada"]}, {"headers": keys["bob"]}
        ids = [at.http.post(PATH, **ada, **sent(sample_every=0)).json()["id"] for _ in range(2)]
        for id in ids:
            until(lambda id=id: at.http.get(f"/api/v1/jobs/{id}", **ada).json()["state"] in ("completed", "failed"))
        first, second = (at.http.get(f"/api/v1/jobs/{id}", **ada).json() for id in ids)
        assert (first["state"], first["lora"], second["lora"]) == ("completed", "zigzag", "zigzag-2"), first["error"]
        assert at.http.get("/api/v1/loras", **ada).json()["data"] == ["zigzag", "zigzag-2"]
        file = at.http.get(first["links"]["lora"], **ada)
        assert file.status_code == 200 and 'filename="zigzag.safetensors"' in file.headers["content-disposition"]
        part = at.http.get(first["links"]["lora"], headers=keys["ada"] | {"range": "bytes=0-7"})
        assert (part.status_code, part.content) == (206, file.content[:8])
        assert at.http.get(first["links"]["comparison"], **ada).content.startswith(b"\x89PNG")
        folder = at.live.service.artifacts.of(ids[0]) / "lora" / "zigzag"
        assert not (folder / "cache").exists() and not (folder / "checkpoints").exists()
        film = {"prompt": "a red circle", "num_frames": 2, "num_inference_steps": 1, "loras": [{"name": "zigzag"}]}
        made = at.http.post("/api/v1/jobs", json=film, **ada).json()
        assert made["plan"]["loras"] == [
            {"name": "zigzag", "sha256": sha256(folder / "pytorch_lora_weights.safetensors"), "weight": 1.0}
        ]
        until(lambda: at.http.get(f"/api/v1/jobs/{made['id']}", **ada).json()["state"] == "completed")
        # Another owner sees and uses none of it.
        assert at.http.get("/api/v1/loras", **bob).json()["data"] == []
        assert at.http.get(first["links"]["lora"], **bob).status_code == 404
        assert at.http.post("/api/v1/jobs", json=film, **bob).json()["error"]["field"] == "loras"
        assert at.http.delete(f"/api/v1/jobs/{ids[0]}", **ada).status_code == 200
        assert at.http.get("/api/v1/loras", **ada).json()["data"] == ["zigzag-2"]


@pytest.mark.slow
def test_a_fine_tuned_network_is_downloaded_and_the_rest_of_its_model_deleted(tmp_path: Path) -> None:
    with working(tmp_path) as at:
        made = at.http.post(PATH, **sent(full=True, iterations=1, sample_every=0)).json()
        state = f"/api/v1/jobs/{made['id']}"
        until(lambda: at.http.get(state).json()["state"] in ("completed", "failed"))
        job = at.http.get(state).json()
        assert (job["state"], job["lora"], "lora" in job["links"]) == ("completed", None, False), job["error"]
        network = load(at.http.get(job["links"]["network"]).content)
        base = load_file(catalogue.find("builtin").path() / "unet" / NETWORK)
        assert network.keys() == base.keys() and any((network[name] != base[name].float()).any() for name in base)
        assert at.http.get(job["links"]["comparison"]).status_code == 200
        assert at.http.get(f"{state}/lora").status_code == 404
        assert at.http.get("/api/v1/loras").json()["data"] == []
        assert not (at.live.service.artifacts.tune(made["id"], "zigzag") / "model").exists()


def test_a_name_of_the_services_own_loras_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path))
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "zigzag.safetensors").write_bytes(b"x")
    with live(tmp_path) as service:
        error = service.post(PATH, **sent()).json()["error"]
        assert error["field"] == "name" and "choose another name" in error["message"]


def test_the_request_part_may_be_a_file_of_json(service: Live) -> None:
    options = sent()
    options["files"].append(("request", ("request.json", options.pop("data")["request"], "application/json")))
    response = service.post(PATH, **options)
    assert response.status_code == 201 and json.loads(response.text)["lora"] == "zigzag"
