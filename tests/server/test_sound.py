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


def done(at: Working, id: str) -> dict[str, Any]:
    """A job once it is completed."""
    with at.http.stream("GET", f"/api/v1/jobs/{id}/events") as response:
        for _ in response.iter_lines():
            pass
    job: dict[str, Any] = at.http.get(f"/api/v1/jobs/{id}").json()
    assert job["state"] == "completed", job
    return job


def clicks(at: Working, id: str, place: Path) -> list[float]:
    """The seconds of the clicks in the film of a job."""
    path = place / f"{id}.mp4"
    path.write_bytes(at.http.get(f"/api/v1/jobs/{done(at, id)['id']}/film").content)
    return heard(read_sound(path))


#: A request for each route, whose film lasts half a second.
SENT: dict[str, dict[str, Any]] = {
    "jobs": SHORT,
    "drafts": SHORT | {"seeds": [7, 8], "until": 0.5},
    "sequences": {"prompts": ["a red circle", "a blue square"], "frames_per": 2, "num_inference_steps": 2, "seed": 7},
    "shots": {
        "shots": [{"prompt": "a red circle", "num_frames": 2}, {"prompt": "a blue square", "num_frames": 2}],
        "defaults": {"num_inference_steps": 2, "seed": 7},
    },
}


def posted(at: Working, route: str, request: dict[str, Any], **files: Any) -> Any:
    return at.http.post(f"/api/v1/{route}", files={"request": (None, json.dumps(request), "application/json")} | files)


@pytest.mark.slow
def test_an_uploaded_sound_is_under_films_of_every_kind_and_in_their_repeats(
    at: Working, tone: bytes, tmp_path: Path
) -> None:
    sound = {"audio": ("tone.wav", tone, "audio/wav")}
    ids = [posted(at, route, SENT[route], **sound).json()["id"] for route in ("sequences", "shots")]
    drafts = posted(at, "drafts", SENT["drafts"], **sound).json()["data"]
    assert len({done(at, draft["id"])["plan"]["audio"] for draft in drafts}) == 1
    finished = at.http.post("/api/v1/drafts/finish", json={"ids": [drafts[1]["id"]]}).json()["data"]
    ids += [film["id"] for film in finished]
    rows = ("rows.csv", b"prompt,num_frames,audio\na red circle,4,\na blue square,4,none\na star,4,\n", "text/csv")
    films = posted(at, "batches", {"defaults": {"num_inference_steps": 2}}, file=rows, **sound).json()["data"]
    ids += [films[0]["id"], films[2]["id"]]
    assert done(at, films[1]["id"])["plan"]["audio"] == "none"
    for id in ids[:2]:
        ids.append(at.http.post(f"/api/v1/jobs/{id}/again", json={}).json()["id"])
        done(at, id)
        assert at.http.delete(f"/api/v1/jobs/{id}").status_code == 200
    for id in ids[2:]:
        assert clicks(at, id, tmp_path) == pytest.approx(CLICKS, abs=0.002)


@pytest.mark.slow
def test_a_shot_has_a_sound_of_its_own(at: Working, tmp_path: Path) -> None:
    click = wav(tmp_path / "click.wav", track([0.1], 0.25)).read_bytes()
    job = posted(at, "shots", SENT["shots"], **{"shot-2-audio": ("click.wav", click, "audio/wav")}).json()
    assert clicks(at, job["id"], tmp_path) == pytest.approx([0.35], abs=0.01)


@pytest.mark.parametrize("route", SENT)
def test_every_route_refuses_a_sound_that_does_not_fit_and_keeps_no_file(at: Working, tone: bytes, route: str) -> None:
    before = at.live.service.artifacts.ids()
    refused = [
        (SENT[route], b"no sound at all", "audio", "is not a supported sound"),
        (SENT[route] | {"audio": "none"}, tone, "audio", "is also sent as a file"),
        (SENT[route] | {"audio_fade": 99}, tone, "audio_fade", "60"),
        (SENT[route] | {"container": "gif"}, tone, "audio", "gif files hold no sound"),
        (SENT[route] | {"audio": "/etc/passwd"}, None, "audio", "'none'"),
        (SENT[route] | {"audio_fit": "loop"}, None, "audio_fit", "has no effect without a track"),
    ]
    for fields, content, field, limit in refused:
        files = {} if content is None else {"audio": ("tone.wav", content, "audio/wav")}
        answer = posted(at, route, fields, **files)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["field"] == field and limit in error["message"], error
    assert at.live.service.artifacts.ids() == before


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
