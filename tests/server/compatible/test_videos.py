"""/v1/videos through the real client: every route, with films that a real worker makes."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from tests.server.working import QUICK, Working, png, working

from flickbook.media.clip import Clip
from flickbook.media.read import facts, read_video
from flickbook.server.compatible.fields import IGNORED, CreateImage, EditVideo
from flickbook.spec import Plan
from flickbook.store.base import new_id

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
#: Half a minute of work.
SLOW: dict[str, Any] = {"num_frames": 64, "num_inference_steps": 100}
PIXEL = "data:image/png;base64," + base64.b64encode(png()).decode()
PAGE = Path(__file__).parents[3] / "docs" / "openai.md"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with working(tmp_path_factory.mktemp("videos")) as service:
        yield service


@pytest.fixture(scope="module")
def film(at: Working) -> openai.types.Video:
    """A film that is done."""
    video = at.sdk.videos.create_and_poll(
        prompt="a red circle moving left", size="128x128", extra_body={**QUICK, "seed": 7}
    )
    assert video.status == "completed", video
    return video


def done(at: Working, id: str) -> openai.types.Video:
    video = at.sdk.videos.poll(id)
    assert video.status == "completed", video
    return video


def plan(at: Working, id: str) -> Plan:
    """What a video was resolved to."""
    job = at.live.ask(at.live.service.store.get(id.replace("video_", "job_")))
    assert job is not None
    return job.plan


def saved(at: Working, id: str, place: Path) -> Path:
    path = place / f"{id}.mp4"
    path.write_bytes(at.sdk.videos.download_content(id).read())
    return path


@pytest.mark.slow
def test_the_openai_client_creates_polls_and_downloads_a_video(
    at: Working, film: openai.types.Video, tmp_path: Path
) -> None:
    assert film.progress == 100 and film.seconds == "0.5" and film.size == "128x128" and film.model == "builtin"
    extra = film.model_extra
    assert extra is not None and (extra["seed"], extra["num_frames"], extra["fps"]) == (7, 4, 8.0)
    assert facts(saved(at, film.id, tmp_path)) == (4, 128, 128, 8.0)
    assert at.sdk.videos.retrieve(film.id) == film


@pytest.mark.slow
def test_a_form_and_json_make_the_same_film(at: Working, film: openai.types.Video) -> None:
    made = at.create(seed=7, extra_params=QUICK, seconds=9, flow_shift=3.0)
    assert made["ignored"] == ["flow_shift"] and made["status"] == "queued" and made["progress"] == 0
    twin = done(at, made["id"])
    assert twin.id != film.id
    assert twin.model_extra and film.model_extra
    assert twin.model_extra["frames_sha256"] == film.model_extra["frames_sha256"]


def test_the_response_has_resolved_values_and_a_poll_interval(at: Working) -> None:
    response = at.http.post("/v1/videos", data={"prompt": "a red circle", "seconds": "0.01"})
    video = response.json()
    assert (video["seconds"], video["num_frames"], video["num_inference_steps"]) == ("0.25", 2, 25)
    assert int(response.headers["openai-poll-after-ms"]) <= 500
    assert int(at.http.get(f"/v1/videos/{video['id']}").headers["openai-poll-after-ms"]) <= 500
    at.sdk.videos.delete(video["id"])


@pytest.mark.slow
def test_videos_are_listed_in_pages(tmp_path: Path) -> None:
    with working(tmp_path, workers=0) as at:
        made = [at.create(**QUICK)["id"] for _ in range(7)]
        at.http.post("/v1/images/generations", json={"prompt": "a", "n": 9})  # refused, and no video
        page = at.http.get("/v1/videos", params={"limit": 3}).json()
        assert page["object"] == "list" and page["has_more"]
        assert [page["first_id"], page["last_id"]] == [made[6], made[4]]
        assert [video.id for video in at.sdk.videos.list(limit=2)] == made[::-1]
        assert [video.id for video in at.sdk.videos.list(limit=3, order="asc")] == made
        last = at.http.get("/v1/videos", params={"after": made[1], "limit": 5}).json()
        assert [video["id"] for video in last["data"]] == [made[0]] and not last["has_more"]
        assert at.http.get("/v1/videos", params={"after": made[0]}).json() == {
            "object": "list",
            "data": [],
            "has_more": False,
        }
        for wrong in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
            assert at.http.get("/v1/videos", params=wrong).status_code == 400


@pytest.mark.slow
def test_deleting_a_running_video_stops_it(at: Working) -> None:
    long = at.create(**SLOW)["id"]
    while at.sdk.videos.retrieve(long).status == "queued":
        time.sleep(0.05)
    answer = at.sdk.videos.delete(long)
    assert (answer.id, answer.object, answer.deleted) == (long, "video.deleted", True)
    with pytest.raises(openai.NotFoundError):
        at.sdk.videos.retrieve(long)
    # The worker is free again: it would be busy for minutes.
    done(at, at.create(**QUICK)["id"])


@pytest.mark.slow
def test_a_cancelled_video_has_the_status_cancelled_and_no_error(at: Working) -> None:
    long = at.create(**SLOW)["id"]
    while at.sdk.videos.retrieve(long).status == "queued":
        time.sleep(0.05)
    body = at.http.post(f"/v1/videos/{long}/cancel").json()
    assert body["status"] in ("in_progress", "cancelled")
    video = at.sdk.videos.poll(long)
    assert video.status == "cancelled" and video.error is None
    for path in (f"/v1/videos/{long}/content", f"/v1/videos/{long}/content?variant=thumbnail"):
        response = at.http.get(path)
        assert response.status_code == 400 and "cancelled" in response.json()["error"]["message"]


@pytest.mark.slow
def test_content_of_an_unfinished_video_is_refused(at: Working, film: openai.types.Video) -> None:
    at.create(**SLOW)
    waiting = at.create(**SLOW)["id"]
    for variant in ("video", "thumbnail", "spritesheet"):
        with pytest.raises(openai.BadRequestError, match="try again when its status is completed") as caught:
            at.sdk.videos.download_content(waiting, variant=variant)
        assert caught.value.code == "job_state"
    for video in at.sdk.videos.list():
        if video.status != "completed":
            at.sdk.videos.delete(video.id)


def test_variants_are_a_thumbnail_and_a_spritesheet(at: Working, film: openai.types.Video, tmp_path: Path) -> None:
    frames = read_video(saved(at, film.id, tmp_path))[0]
    first = Image.open(BytesIO(at.sdk.videos.download_content(film.id, variant="thumbnail").read()))
    assert first.format == "WEBP" and first.size == (128, 128)
    assert abs(frames[len(frames) // 2].mean() - np.asarray(first.convert("RGB")).mean()) < 4
    for _ in range(2):
        sheet = Image.open(BytesIO(at.sdk.videos.download_content(film.id, variant="spritesheet").read()))
        assert sheet.format == "PNG" and sheet.width > 4 * 128
    assert at.http.get(f"/v1/videos/{film.id}/content", params={"variant": "other"}).status_code == 400


def test_an_alias_runs_a_script_unchanged_and_reports_what_it_replaced(
    at: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    script: dict[str, Any] = {
        "prompt": "a red circle moving left",
        "model": "sora-2",
        "size": "1280x720",
        "seconds": "4",
    }
    with pytest.raises(openai.NotFoundError) as caught:
        at.sdk.videos.create(**script)
    assert caught.value.code == "model_not_found"
    settings = at.live.service.settings.model_copy(update={"aliases": {"sora-2": "builtin"}})
    monkeypatch.setattr(at.live.service, "settings", settings)
    video = at.sdk.videos.create(**script)
    assert (video.model, video.size, video.seconds) == ("builtin", "128x128", "4")
    assert video.model_extra is not None and video.model_extra["replaced"] == {"model": "sora-2", "size": "1280x720"}
    at.sdk.videos.delete(video.id)


def test_head_of_content_returns_the_headers_of_get(at: Working, film: openai.types.Video) -> None:
    path = f"/v1/videos/{film.id}/content"
    whole, head = at.http.get(path), at.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content)) and head.headers["etag"] == whole.headers["etag"]


def test_content_supports_a_single_range(at: Working, film: openai.types.Video) -> None:
    path = f"/v1/videos/{film.id}/content"
    whole = at.http.get(path)
    size = len(whole.content)
    assert whole.headers["content-type"] == "video/mp4" and "attachment" in whole.headers["content-disposition"]
    for requested, status, content in (
        ("bytes=0-9", 206, whole.content[:10]),
        ("bytes=10-", 206, whole.content[10:]),
        ("bytes=-7", 206, whole.content[-7:]),
        (f"bytes=5-{size * 2}", 206, whole.content[5:]),
        ("bytes=0-1,4-5", 200, whole.content),
        ("bytes=9-2", 200, whole.content),
        ("lines=1-2", 200, whole.content),
        ("bytes=" + "9" * 5000, 200, whole.content),
    ):
        part = at.http.get(path, headers={"range": requested})
        assert (part.status_code, part.content) == (status, content), requested
    beyond = at.http.get(path, headers={"range": f"bytes={size}-"})
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{size}"
    assert "message" in beyond.json()["error"]
    again = at.http.get(path, headers={"if-none-match": whole.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_a_remix_changes_only_the_prompt(at: Working, film: openai.types.Video) -> None:
    remix = done(at, at.sdk.videos.remix(film.id, prompt="a blue square moving right").id)
    assert remix.remixed_from_video_id == film.id and remix.prompt == "a blue square moving right"
    assert remix.model_extra and film.model_extra
    same = ("seed", "num_frames", "fps", "num_inference_steps", "guidance_scale")
    assert [remix.model_extra[name] for name in same] == [film.model_extra[name] for name in same]
    assert remix.model_extra["frames_sha256"] != film.model_extra["frames_sha256"]
    again = done(at, at.sdk.videos.remix(film.id, prompt=film.prompt or "").id)
    assert again.model_extra and again.model_extra["frames_sha256"] == film.model_extra["frames_sha256"]


@pytest.mark.slow
def test_an_edit_takes_an_uploaded_film_or_a_video_id(at: Working, film: openai.types.Video, tmp_path: Path) -> None:
    steps = {"num_inference_steps": 4, "seed": 3}
    with open(saved(at, film.id, tmp_path), "rb") as file:
        sent = at.sdk.videos.edit(prompt="a green circle", video=file, extra_body=steps)
    named = at.http.post(
        "/v1/videos/edits", json={"prompt": "a green circle", "video": {"id": film.id}, **steps}
    ).json()
    assert plan(at, sent.id) == plan(at, named["id"]) and plan(at, sent.id).video
    assert done(at, sent.id).seconds == film.seconds
    at.sdk.videos.delete(named["id"])


@pytest.mark.slow
def test_an_extension_is_appended_to_its_film(at: Working, film: openai.types.Video, tmp_path: Path) -> None:
    other = Clip(np.zeros((6, 48, 64, 3), np.uint8), 4.0).save(tmp_path / "other.mp4")
    with open(other, "rb") as file:
        sent = at.sdk.videos.extend(
            prompt="a red circle moving left", seconds="1", video=file, extra_body={"num_inference_steps": 2}
        )
    body = {"prompt": "a red circle moving left", "seconds": "1", "video": {"id": film.id}}
    named = at.http.post("/v1/videos/extensions", json=body).json()
    assert named["num_inference_steps"] == 2  # as in the film that it goes on from
    for id, seconds, size, count in ((named["id"], "1.5", "128x128", 12), (sent.id, "2.5", "64x48", 10)):
        video = done(at, id)
        assert (video.seconds, video.size) == (seconds, size)
        frames = read_video(saved(at, id, tmp_path))[0]
        assert len(frames) == count
    assert not frames[:6].any() and frames[6:].any()


@pytest.mark.slow
def test_an_uploaded_image_is_the_first_frame(at: Working) -> None:
    fields = {"prompt": "a red circle", "seed": 1, **QUICK}
    sent = at.sdk.videos.create(
        prompt="a red circle", input_reference=("a.png", png()), extra_body={**QUICK, "seed": 1}
    )
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    made = [at.create(**fields, **{name: url})["id"] for name in ("input_reference", "image_url")]
    made.append(at.create(**fields, image_reference={"image_url": url})["id"])
    made.append(
        at.http.post("/v1/videos", data={**fields, "image_reference": json.dumps({"image_url": url})}).json()["id"]
    )
    plans = {plan(at, id).key() for id in [sent.id, *made]}
    assert len(plans) == 1 and plan(at, sent.id).image
    plain = at.create(**fields)["id"]
    one, other = done(at, sent.id).model_extra, done(at, plain).model_extra
    assert one and other and one["frames_sha256"] != other["frames_sha256"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "body|video|input"), (b"GIF89a", "damaged|cut|read"), (b"no picture at all", "no picture")],
)
def test_an_invalid_input_image_is_refused_and_leaves_no_files(at: Working, content: bytes, says: str) -> None:
    before = at.live.service.artifacts.ids()
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        at.sdk.videos.create(prompt="a", input_reference=("a.png", content or b"\0"))
    assert caught.value.param == "input_reference" and str(at.live.service.artifacts.root) not in str(caught.value)
    assert at.live.service.artifacts.ids() == before


@pytest.mark.parametrize(
    ("status", "param", "code", "fields"),
    [
        (404, "model", "model_not_found", {"model": "sora-2"}),
        (400, "model", "model_not_pulled", {"model": "wan-2.1-14b"}),
        (400, "nonsense", "invalid_request", {"nonsense": 1}),
        (400, "video_url", "invalid_request", {"video_url": "http://127.0.0.1/"}),
        (400, "input_reference", "invalid_request", {"input_reference": "http://127.0.0.1/a.png"}),
        (400, "input_reference", "invalid_request", {"input_reference": "/etc/passwd"}),
        (400, "last_image", "invalid_request", {"last_image": "http://127.0.0.1/a.png"}),
        (400, "last_image", "invalid_request", {"last_image": PIXEL}),
        (400, "num_frames", "invalid_request", {"num_frames": 257}),
        (400, "num_frames", "invalid_request", {"num_frames": 1}),
        (400, "size", "invalid_request", {"size": "720x1280"}),
        (400, "height", "invalid_request", {"height": 64}),
        (
            400,
            "frame_interpolation_exp",
            "invalid_request",
            {"enable_frame_interpolation": True, "frame_interpolation_exp": 4},
        ),
        (400, "prompt", "invalid_request", {"prompt": " "}),
        (400, "prompt", "invalid_request", {"prompt": "a\u0007"}),
        (400, "scheduler", "scheduler_mismatch", {"scheduler": "magic"}),
        (400, "guidance_scale", "invalid_request", {"guidance_scale": 0.5}),
        (400, "strength", "invalid_request", {"strength": 0.5}),
    ],
)
def test_an_error_response_names_the_field(
    at: Working, status: int, param: str, code: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        at.sdk.videos.create(prompt=fields.pop("prompt", "a red circle"), extra_body=fields)
    error = caught.value
    assert (error.status_code, error.param, error.code) == (status, param, code)
    assert "Traceback" not in str(error)


def test_invalid_and_unknown_video_ids_get_the_same_404(at: Working, film: openai.types.Video) -> None:
    bare = film.id.removeprefix("video_")
    for id in (
        "video_",
        "x",
        f"job_{bare}",
        f"draft_{bare}",
        film.id[:-1],
        new_id("video"),
        "video_" + "u" * 26,
        "%00",
    ):
        answers = [
            at.http.get(f"/v1/videos/{id}"),
            at.http.delete(f"/v1/videos/{id}"),
            at.http.post(f"/v1/videos/{id}/cancel"),
            at.http.get(f"/v1/videos/{id}/content"),
            at.http.post(f"/v1/videos/{id}/remix", json={"prompt": "a"}),
            at.http.post("/v1/videos/edits", json={"prompt": "a", "video": {"id": id}}),
            at.http.get("/v1/videos", params={"after": id}),
        ]
        assert {answer.status_code for answer in answers} == {404}, id
        assert {answer.json()["error"]["code"] for answer in answers} == {"job_not_found"}, id


def test_characters_and_conflicting_inputs_are_refused(at: Working, film: openai.types.Video) -> None:
    with pytest.raises(openai.APIStatusError):
        at.sdk.videos.create_character(name="a", video=b"x")
    assert at.http.get(f"/v1/videos/characters/{film.id}").status_code == 404
    for body in ({"prompt": "a"}, {"prompt": "a", "video": {"id": film.id}, "image_url": "data:image/png;base64,AA=="}):
        assert at.http.post("/v1/videos/edits", json=body).status_code == 400
    assert at.http.post("/v1/videos", files={"video": b"x"}, data={"prompt": "a"}).status_code == 400


def test_sync_returns_the_finished_film(at: Working) -> None:
    answer = at.http.post("/v1/videos/sync", json={"prompt": "a red circle", **QUICK})
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    assert answer.content[4:8] == b"ftyp"


@pytest.mark.slow
def test_the_examples_of_docs_openai_md_run(at: Working, tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8000", at.live.url)
    (tmp_path / "first.png").write_bytes(png())
    program = "\n".join(re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    made = {"circle.mp4", "first-frame.webp", "frames.png", "circle.gif"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    if shutil.which("curl"):
        shell = "\n".join(re.findall(r"^```sh\n(curl .*?)^```", page, re.MULTILINE | re.DOTALL))
        subprocess.run(["sh", "-ec", shell], cwd=tmp_path, check=True, capture_output=True, timeout=120)
        assert facts(tmp_path / "circle-2.mp4")[0] == 16


def test_docs_openai_md_names_every_field() -> None:
    page = PAGE.read_text(encoding="utf-8")
    fields = {*EditVideo.model_fields, *CreateImage.model_fields, *IGNORED} - {"int_id"}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []
