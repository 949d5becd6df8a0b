"""/v1/images/generations through the real client: pictures, small films, and what emerges."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image
from tests.patience import until
from tests.server.working import Working, working

from flickbook.store.base import Query

STEPS: dict[str, Any] = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with working(tmp_path_factory.mktemp("images")) as service:
        yield service


def picture(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(BytesIO(base64.b64decode(text, validate=True)))


@pytest.mark.slow
def test_n_images_have_consecutive_seeds(at: Working) -> None:
    found = at.sdk.images.generate(prompt="a red circle", n=2, size="128x128", extra_body={**STEPS, "seed": 5})
    assert found.size == "128x128" and found.output_format == "png" and found.data is not None
    assert [each.model_extra["seed"] for each in found.data if each.model_extra] == [5, 6]
    assert [picture(each.b64_json).format for each in found.data] == ["PNG", "PNG"]
    again = at.sdk.images.generate(prompt="a red circle", extra_body={**STEPS, "seed": 6})
    assert again.data is not None
    assert (again.data[0].model_extra or {})["frames_sha256"] == (found.data[1].model_extra or {})["frames_sha256"]
    assert again.data[0].b64_json == found.data[1].b64_json


@pytest.mark.parametrize(("form", "name"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
@pytest.mark.slow
def test_an_image_has_the_requested_format(at: Working, form: Any, name: str) -> None:
    found = at.sdk.images.generate(prompt="a red circle", output_format=form, output_compression=80, extra_body=STEPS)
    assert found.output_format == form and found.data is not None
    assert picture(found.data[0].b64_json).format == name


@pytest.mark.slow
def test_a_moving_image_has_the_requested_frames_and_duration(at: Working) -> None:
    found = at.sdk.images.generate(
        prompt="a red circle moving left", output_format="gif", frame_count=4, frame_duration_ms=100, extra_body=STEPS
    )
    assert found.data is not None
    shown = picture(found.data[0].b64_json)
    assert shown.format == "GIF" and getattr(shown, "n_frames", 1) == 4 and shown.info["duration"] == 100


def test_an_image_url_needs_no_key_and_cannot_be_altered(at: Working) -> None:
    found = at.sdk.images.generate(prompt="a red circle", response_format="url", extra_body=STEPS)
    assert found.data is not None and found.data[0].b64_json is None
    url = found.data[0].url or ""
    assert Image.open(BytesIO(httpx2.get(url).content)).format == "PNG"
    assert httpx2.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 404


@pytest.mark.slow
def test_a_stream_sends_partial_images_then_the_image(at: Working) -> None:
    events = list(
        at.sdk.images.generate(
            prompt="a red circle", stream=True, partial_images=3, extra_body={"num_inference_steps": 60, "seed": 1}
        )
    )
    partial, last = events[:-1], events[-1]
    assert last.type == "image_generation.completed" and last.usage.total_tokens == 0
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))  # type: ignore[union-attr]
    assert len(partial) <= 3 and {picture(event.b64_json).format for event in events} == {"PNG"}
    twin = at.sdk.images.generate(prompt="a red circle", extra_body={"num_inference_steps": 60, "seed": 1})
    assert twin.data is not None and twin.data[0].b64_json == last.b64_json


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("n", {"n": 9}),
        ("size", {"size": "big"}),
        ("size", {"size": "1024x1024"}),
        ("frame_count", {"frame_count": 4}),
        ("frame_count", {"frame_count": 17, "output_format": "gif"}),
        ("frame_duration_ms", {"frame_duration_ms": 5, "output_format": "gif"}),
        ("frame_duration_ms", {"frame_duration_ms": 5000, "output_format": "gif"}),
        ("partial_images", {"partial_images": 2}),
        ("partial_images", {"partial_images": 4, "stream": True}),
        ("output_format", {"output_format": "svg"}),
        ("background", {"background": "transparent"}),
        ("response_format", {"response_format": "url", "stream": True}),
        ("model", {"model": "gpt-image-2"}),
        ("nonsense", {"nonsense": True}),
    ],
)
def test_a_refused_image_request_names_the_field_and_creates_no_job(
    at: Working, param: str, fields: dict[str, Any]
) -> None:
    before = len(at.live.ask(at.live.service.store.find(Query(limit=1000))))
    with pytest.raises(openai.APIStatusError) as caught:
        at.sdk.images.generate(prompt="a red circle", extra_body=fields)
    assert caught.value.status_code in (400, 404) and caught.value.param == param
    assert len(at.live.ask(at.live.service.store.find(Query(limit=1000)))) == before


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_disconnecting_cancels_the_image_jobs(at: Working, stream: bool) -> None:
    body = {"prompt": "a red circle", "num_inference_steps": 100, "n": 8, "stream": stream}
    before = {job.id for job in at.live.ask(at.live.service.store.find(Query(limit=1000)))}

    def added() -> set[str]:
        return {job.id for job in at.live.ask(at.live.service.store.find(Query(limit=1000)))} - before

    with at.live.posting("/v1/images/generations", body):
        until(lambda: len(added()) == 8)
    until(lambda: not added())


@pytest.mark.slow
def test_same_idempotency_key_returns_the_same_images(at: Working) -> None:
    headers = {"idempotency-key": "pictures"}
    body = {"prompt": "a red circle", "n": 2, **STEPS}
    one, other = (at.http.post("/v1/images/generations", json=body, headers=headers).json() for _ in range(2))
    assert one["data"] == other["data"]
    answer = at.http.post("/v1/images/generations", json={**body, "n": 1}, headers=headers)
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "Idempotency-Key"
