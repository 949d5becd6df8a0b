"""Sound through both APIs: uploaded, checked, under the film that a worker makes, and kept by its repeats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clicks import heard, track, wav
from tests.server.working import QUICK, Working, png, working

from flickbook.media.read_sound import film_sound, read_sound

CLICKS = [0.1, 0.3]
SHORT: dict[str, Any] = {"prompt": "a red circle moving left", "seed": 7, **QUICK}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with working(tmp_path_factory.mktemp("sound")) as service:
        yield service


@pytest.fixture
def tone(tmp_path: Path) -> bytes:
    """Half a second with two clicks: as long as the film."""
    return wav(tmp_path / "tone.wav", track(CLICKS, 0.5)).read_bytes()


def form(**fields: Any) -> dict[str, Any]:
    return {name: str(value) for name, value in fields.items()}


def film(at: Working, id: str, place: Path) -> Path:
    """The film of a video, downloaded once it is done."""
    assert at.sdk.videos.poll(id).status == "completed"
    path = place / f"{id}.mp4"
    path.write_bytes(at.sdk.videos.download_content(id).read())
    return path


@pytest.mark.slow
def test_an_uploaded_sound_is_in_the_video_and_in_its_remix(at: Working, tone: bytes, tmp_path: Path) -> None:
    files = {"audio": ("../../tone.wav", tone, "audio/wav")}
    made = at.http.post("/v1/videos", data=form(**SHORT, audio_fade=0.01), files=files)
    assert made.status_code == 200, made.text
    id = made.json()["id"]
    assert heard(read_sound(film(at, id, tmp_path))) == pytest.approx(CLICKS, abs=0.002)
    again = at.sdk.videos.remix(id, prompt="a blue circle moving left")
    assert heard(read_sound(film(at, again.id, tmp_path))) == pytest.approx(CLICKS, abs=0.002)
    longer = at.http.post("/v1/videos/extensions", json={"prompt": "it goes on", "video": {"id": id}, **QUICK})
    assert longer.status_code == 200, longer.text
    path = film(at, longer.json()["id"], tmp_path)
    assert heard(read_sound(path)) == pytest.approx(CLICKS, abs=0.002) and read_sound(path).seconds > 0.9


@pytest.mark.slow
def test_a_job_with_a_picture_and_a_sound(at: Working, tone: bytes, tmp_path: Path) -> None:
    request = json.dumps(SHORT | {"audio_fit": "trim", "polish": {"trim": "0:2f"}})
    files = {
        "request": (None, request, "application/json"),
        "image": ("a.png", png(), "image/png"),
        "audio": ("tone", tone, "application/octet-stream"),
    }
    made = at.http.post("/api/v1/jobs", files=files)
    assert made.status_code == 201, made.text
    plan = made.json()["plan"]
    assert len(plan["audio"]) == 64 and plan["audio_fit"] == "trim" and len(plan["image"]) == 64
    path = film(at, made.json()["id"].replace("job_", "video_"), tmp_path)
    assert heard(read_sound(path)) == pytest.approx([0.1], abs=0.002)
    silent = at.create(**QUICK, generate_audio=False)
    assert film_sound(film(at, silent["id"], tmp_path)) is None


@pytest.mark.parametrize(
    ("fields", "content", "field", "limit"),
    [
        ({}, b"no sound at all", "audio", "is not a supported sound"),
        ({}, b"", "audio", "is empty"),
        ({}, png(), "audio", "is not a supported sound"),
        ({}, b"fLaC" + bytes(60), "audio", "cannot be read"),
        ({"container": "gif"}, None, "audio", "gif files hold no sound"),
        ({"num_frames": 2}, None, "audio", "lasts 0.5 seconds, and the film 0.25; set the audio fit to trim"),
        ({"audio_fit": "stretch"}, None, "audio_fit", "'pad', 'trim' or 'loop'"),
        ({"audio_fade": 99}, None, "audio_fade", "60"),
        ({"generate_audio": "false"}, None, "generate_audio", "no place for the uploaded sound"),
    ],
)
def test_a_sound_that_does_not_fit_is_refused_at_once(
    at: Working, tone: bytes, fields: dict[str, Any], content: bytes | None, field: str, limit: str
) -> None:
    before = at.live.service.artifacts.ids()
    files = {"audio": ("tone.wav", tone if content is None else content, "audio/wav")}
    answer = at.http.post("/v1/videos", data=form(**SHORT | fields), files=files)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == field and limit in error["message"], error
    assert str(at.live.service.artifacts.root) not in answer.text
    assert at.live.service.artifacts.ids() == before


@pytest.mark.parametrize(
    ("fields", "field"), [({"audio": "/etc/passwd"}, "audio"), ({"audio_fit": "loop"}, "audio_fit")]
)
def test_a_job_opens_no_sound_by_its_path(at: Working, fields: dict[str, Any], field: str) -> None:
    answer = at.http.post("/api/v1/jobs", json=SHORT | fields)
    assert answer.status_code == 400 and answer.json()["error"]["field"] == field
