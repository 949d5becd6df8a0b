"""The files of jobs: whole, in one range, by links, and never anything else."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

from flickbook.jobs.signed_links import link
from flickbook.media.read import read_any
from flickbook.server.api.responses import MEDIA
from flickbook.store.base import Job

JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="module")
def job(service: Live) -> Job:
    """A job that is done."""
    return settled(service, service.post(JOBS, json=QUICK).json()["id"])


@pytest.fixture(scope="module")
def film(service: Live, job: Job) -> bytes:
    return service.get(f"{JOBS}/{job.id}/film").content


def ask(service: Live, job: Job, kind: str = "film", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.get(f"{JOBS}/{job.id}/{kind}", headers=named)


def test_the_film_response_has_the_bytes_of_the_result(service: Live, job: Job) -> None:
    response = ask(service, job)
    assert job.result is not None
    assert hashlib.sha256(response.content).hexdigest() == job.result.sha256
    assert response.headers["content-type"] == "video/mp4" and response.headers["etag"] == f'"{job.result.sha256}"'
    assert (
        response.headers["x-content-type-options"] == "nosniff"
        and "sandbox" in response.headers["content-security-policy"]
    )
    assert response.headers["content-disposition"] == f'inline; filename="{job.id}.mp4"'
    saved = service.get(f"{JOBS}/{job.id}/film?download=1").headers["content-disposition"]
    assert saved == f'attachment; filename="{job.id}.mp4"'


def test_head_returns_the_headers_of_get(service: Live, job: Job, film: bytes) -> None:
    response = httpx2.head(f"{service.url}{JOBS}/{job.id}/film")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(film)) and response.headers["accept-ranges"] == "bytes"


def test_a_single_range_returns_206(service: Live, job: Job, film: bytes) -> None:
    size = len(film)
    for requested, part in {"0-0": film[:1], "5-": film[5:], "-7": film[-7:], f"10-{size * 9}": film[10:]}.items():
        response = ask(service, job, range=f"bytes={requested}")
        assert (response.status_code, response.content) == (206, part)
        first = size - len(part) if requested != "0-0" else 0
        assert response.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{size}"


def test_a_range_outside_the_file_is_416(service: Live, job: Job, film: bytes) -> None:
    for requested in (f"{len(film)}-", "-0"):
        response = ask(service, job, range=f"bytes={requested}")
        assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(film)}")


@pytest.mark.parametrize(
    "requested", ["bytes=0-1,3-4", "bytes=" + "0-," * 4000 + "0-", "bytes=5-2", "bytes=-", "lines=1-2"]
)
def test_several_or_invalid_ranges_return_the_whole_file(service: Live, job: Job, film: bytes, requested: str) -> None:
    response = ask(service, job, range=requested)
    assert (response.status_code, response.content) == (200, film)


def test_a_matching_etag_returns_304(service: Live, job: Job, film: bytes) -> None:
    etag = ask(service, job).headers["etag"]
    for requested in (etag, f"W/{etag}", f'"x", {etag}'):
        assert (ask(service, job, if_none_match=requested).status_code, len(film) > 0) == (304, True)
    assert ask(service, job, range="bytes=0-3", if_range=etag).status_code == 206
    assert ask(service, job, range="bytes=0-3", if_range='"another"').status_code == 200


@settings(max_examples=40)
@given(first=st.integers(0, 10**19), last=st.integers(0, 10**19), form=st.sampled_from(["{}-{}", "{}-", "-{}"]))
def test_any_range_header_returns_a_part_or_416(
    service: Live, job: Job, film: bytes, first: int, last: int, form: str
) -> None:
    response = ask(service, job, range="bytes=" + form.format(first, last))
    if response.status_code == 416:
        assert response.json()["error"]["code"] == "range_not_satisfiable"
    else:
        whole = response.status_code == 200
        assert response.content == film if whole else response.status_code == 206 and response.content in film


def test_thumbnail_and_sheet_are_images(service: Live, job: Job) -> None:
    for kind, form in [("thumbnail", "WEBP"), ("sheet", "PNG")]:
        response = ask(service, job, kind)
        assert Image.open(io.BytesIO(response.content)).format == form
        assert response.headers["content-type"] == f"image/{form.lower()}"
        assert ask(service, job, kind).headers["etag"] == response.headers["etag"]


def test_last_returns_the_last_frame_of_the_film(service: Live, job: Job) -> None:
    assert job.result is not None
    frames, _ = read_any(Path(job.result.path))
    response = service.get(service.get(f"{JOBS}/{job.id}").json()["links"]["last"])
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"] == f'inline; filename="{job.id}-last.png"'
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(response.content))), frames[-1])
    assert Path(job.result.path).with_name("film-1-last.png").read_bytes() == response.content
    made = service.post(f"{JOBS}/{job.id}/links", json={"file": "last"}).json()
    assert service.get(made["url"]).content == response.content


def test_an_image_has_a_thumbnail(service: Live) -> None:
    id = service.post(JOBS, json=QUICK | {"num_frames": None, "kind": "picture"}).json()["id"]
    assert settled(service, id).kind == "picture"
    assert service.get(f"{JOBS}/{id}/film").headers["content-type"] == "image/png"
    assert service.get(f"{JOBS}/{id}/thumbnail").status_code == 200
    assert service.get(f"{JOBS}/{id}/last").content[:4] == b"\x89PNG"


def test_preview_returns_the_newest_preview(service: Live, job: Job) -> None:
    assert ask(service, job, "preview").status_code == 404
    artifacts = service.service.artifacts
    (artifacts.of(job.id) / "preview.webp").write_bytes(b"one")
    assert ask(service, job, "preview").content == b"one"
    assert ask(service, job, "preview").headers["content-type"] == "image/webp"


def test_the_film_of_an_unfinished_job_is_404(service: Live) -> None:
    id = service.post(JOBS, json=QUICK).json()["id"]
    assert {service.get(f"{JOBS}/{id}/{kind}").status_code for kind in ("film", "thumbnail", "recipe", "run")} == {404}


def test_a_symbolic_link_in_place_of_a_film_is_404(service: Live, job: Job, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    id = service.post(JOBS, json=QUICK).json()["id"]
    done = settled(service, id)
    path = service.service.artifacts.film(id, done.attempt, ".mp4")
    path.unlink()
    path.symlink_to(secret)
    assert service.get(f"{JOBS}/{id}/film").status_code == 404
    place = service.service.artifacts.of(id)
    moved = place.rename(tmp_path / "moved")
    (moved / path.name).unlink()
    (moved / path.name).write_bytes(b"secret")
    os.symlink(moved, place)
    assert service.get(f"{JOBS}/{id}/film").status_code == 404


def test_only_media_files_are_served(service: Live, job: Job) -> None:
    assert job.result is not None
    for name in ("film-1.svg", "film-1.html", "../film-1.mp4", "film-1.mp4.json", "checkpoint.safetensors"):
        changed = {"result": job.result.model_copy(update={"path": name})}
        service.ask(service.service.store.change(job.id, ("completed",), changed))
        assert ask(service, job).status_code == (200 if name == "../film-1.mp4" else 404), name
    service.ask(service.service.store.change(job.id, ("completed",), {"result": job.result}))
    assert not {"image/svg+xml", "text/html"} & set(MEDIA.values())


def test_a_signed_link_needs_no_key_and_opens_one_file(service: Live, job: Job, film: bytes) -> None:
    made = service.post(f"{JOBS}/{job.id}/links", json={"seconds": 60}).json()
    assert 50 < made["expires_at"] - time.time() < 61
    assert service.get(made["url"]).content == film
    assert service.get(made["url"], headers={"range": "bytes=0-3"}).content == film[:4]
    for other in (
        made["url"].replace("/film", "/recipe"),
        made["url"].replace("expires=1", "expires=2"),
        made["url"] + "&download=true",
        made["url"].replace(job.id, "job_" + "0" * 26),
        made["url"][:-1] + ("0" if made["url"][-1] != "0" else "1"),
    ):
        assert service.get(other).status_code == 404
    body = service.post(f"{JOBS}/{job.id}/links", json={"file": "recipe", "download": True}).json()["url"]
    assert service.get(body).headers["content-disposition"].startswith("attachment")


def test_a_signed_link_ends_when_its_key_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flickbook.jobs.api_keys.FRESH", 0.0)
    with live(tmp_path) as service:
        links = f"{JOBS}/{settled(service, service.post(JOBS, json=QUICK).json()['id']).id}/links"
        before = service.post(links, json={}).json()["url"]
        assert service.get(before).status_code == 200
        key, headers = service.key("operator", "admin")
        assert service.get(before).status_code == 404, "it was made without a key, and now one is needed"
        made = service.post(links, json={}, headers=headers).json()["url"]
        assert service.get(made).status_code == 200
        service.ask(service.guard.keys.revoke(key.id))
        assert service.get(made).status_code == 404


def test_a_signed_link_expires(service: Live, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = service.ask(service.service.store.secret("links"))
    with monkeypatch.context() as patch:
        patch.setattr("flickbook.jobs.signed_links.time.time", lambda: 1_000_000.0)
        old = link(secret, f"/media/{job.id}/film", job.owner)
    assert urlsplit(old).query.startswith("expires=1000300")
    assert service.get(old).status_code == 404
