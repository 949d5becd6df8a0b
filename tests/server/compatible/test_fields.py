"""The names that other services share: which are taken, which have no effect, which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.catalogue import find
from flickbook.errors import ModelNotFound, RequestError
from flickbook.resolution import resolve
from flickbook.server.compatible.fields import (
    IGNORED,
    REFUSED,
    CreateImage,
    CreateVideo,
    EditVideo,
    film_of,
    frames_of,
    ignored,
    loras_of,
    polish_options_of,
    validated,
)
from flickbook.server.compatible.models import here, model_of
from flickbook.server.compatible.responses import inlined
from flickbook.server.submission.forms import Body

BUILTIN = find("builtin")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=6,
)


def video(typed: bool = True, **fields: Any) -> CreateVideo:
    return validated(CreateVideo, Body({"prompt": "a red circle", **fields}, typed=typed))


def test_a_form_and_json_give_the_same_request() -> None:
    fields = {
        "size": "128x128",
        "seconds": "2",
        "seed": 7,
        "fps": 8,
        "guidance_scale": 3.5,
        "num_inference_steps": 4,
        "enable_frame_interpolation": True,
        "frame_interpolation_exp": 2,
        "extra_params": {"negative_prompt": "green"},
        "lora": {"name": "ink", "scale": 0.5},
    }
    form = {name: str(value).lower() if not isinstance(value, dict) else value for name, value in fields.items()}
    form["lora"] = '{"name": "ink", "scale": 0.5}'
    form["extra_params"] = '{"negative_prompt": "green"}'
    assert video(**fields) == video(typed=False, **form, container="")


def test_shared_field_names_become_a_plan() -> None:
    fields = video(
        size="128x128",
        width=5,
        seconds="1.5",
        negative_prompt="green",
        num_inference_steps=4,
        guidance_scale=3,
        seed=7,
        output_quality="low",
        container="webm",
        enable_frame_interpolation=True,
        frame_interpolation_exp=2,
        enable_upscaling=True,
        upscaling_scale=2,
    )
    plan = resolve(film_of(fields, BUILTIN, ()))
    assert (plan.width, plan.height, plan.num_frames, plan.seed) == (128, 128, 12, 7)
    assert (plan.num_inference_steps, plan.guidance_scale, plan.negative_prompt) == (4, 3.0, "green")
    assert (plan.container, plan.quality) == ("webm", 45)
    assert polish_options_of(fields) == {"interpolate": 4, "upscale": 2}
    assert polish_options_of(video(frame_interpolation_exp=2, upscaling_scale=2)) is None


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_name_a_file_or_url_are_refused(name: str) -> None:
    for value in ("/etc/passwd", "http://127.0.0.1/x", {"path": "x"}):
        with pytest.raises(RequestError) as caught:
            video(**{name: value})
        assert caught.value.field == name
    video(**{name: None})


@pytest.mark.parametrize("holder", ["extra_body", "extra_params", "diffusers_kwargs"])
def test_fields_inside_extra_body_are_validated_like_the_others(holder: str) -> None:
    assert video(**{holder: {"seed": 7}}).seed == 7
    assert video(seed=8, **{holder: '{"seed": 7}'}).seed == 8
    for bad, field in (({"lora_path": "x"}, "lora_path"), ({"nonsense": 1}, "nonsense"), ([1], holder)):
        with pytest.raises(RequestError) as caught:
            video(**{holder: bad})
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("nonsense", {"nonsense": 1}),
        ("seed", {"seed": "7"}),
        ("seed", {"seed": 2**63}),
        ("seed", {"seed": -1}),
        ("seconds", {"seconds": "four"}),
        ("seconds", {"seconds": 0}),
        ("seconds", {"seconds": True}),
        ("size", {"size": "128"}),
        ("n", {"n": 2}),
        ("num_outputs_per_prompt", {"num_outputs_per_prompt": 2}),
        ("quality", {"quality": "sharp"}),
        ("quality", {"quality": 101.5}),
        ("loras.0.path", {"loras": [{"name": "ink", "path": "/x"}]}),
        ("lora.name", {"lora": {"name": 5}}),
        ("input_reference", {"input_reference": {"file_id": "x"}}),
        ("prompt", {"prompt": None}),
    ],
)
def test_an_error_names_the_wrong_field(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        video(**fields)
    assert caught.value.field == field


def test_fields_without_effect_are_listed() -> None:
    fields = video(user="me", flow_shift=3.0, guidance_scale_2=2.0, frame_interpolation_scale=0.5)
    assert set(ignored(fields)) == {"user", "flow_shift", "guidance_scale_2", "frame_interpolation_scale"}
    assert set(ignored(fields)) <= set(IGNORED)
    assert ignored(validated(CreateImage, Body({"prompt": "a", "quality": "high", "style": "vivid"}))) == [
        "style",
        "quality",
    ]


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [(None, None, None), (2, None, 16), (2, 4.0, 8), (0.01, None, 2), (3600, None, 256), (0.3, 10.0, 3)],
)
def test_seconds_give_the_nearest_number_of_frames(seconds: float | None, fps: float | None, frames: int) -> None:
    assert frames_of(seconds, None, fps, BUILTIN) == frames
    assert frames_of(seconds, 5, fps, BUILTIN) == 5


@given(st.floats(0.001, 3600), st.sampled_from(["builtin", "wan-2.1-1.3b", "sdxl-turbo"]))
def test_every_number_of_seconds_gives_frames_that_the_model_makes(seconds: float, name: str) -> None:
    model = find(name)
    frames = frames_of(seconds, None, None, model)
    smallest, largest = model.num_frames.range
    assert frames is not None and smallest <= frames <= largest
    assert (frames - smallest) % model.num_frames.every == 0


def test_an_unknown_model_is_not_found_and_the_error_names_installed_ones() -> None:
    assert model_of(None, "builtin").name == "builtin"
    assert "builtin" in here() and "wan-2.1-14b" not in here()
    assert model_of("wan-2.1-14b", "builtin").name == "wan-2.1-14b"
    for name in ("sora-2", "../builtin", "x" * 100_000):
        with pytest.raises(ModelNotFound, match="builtin") as caught:
            model_of(name, "builtin")
        assert caught.value.code == "model_not_found" and caught.value.field == "model"


def test_a_lora_is_found_by_file_name_never_by_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ink.safetensors").write_bytes(b"x")
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    found = loras_of(video(loras=[{"name": "ink", "scale": 0.5}]), [tmp_path / "in"])
    assert found == ((str(tmp_path / "in" / "ink.safetensors"), 0.5),)
    for name in ("../secret", str(tmp_path / "secret"), "ink.safetensors", "", "*"):
        with pytest.raises(RequestError, match="ink"):
            loras_of(video(loras=[{"name": name}]), [tmp_path / "in"])


@given(st.dictionaries(st.sampled_from([*EditVideo.model_fields, *REFUSED, "nonsense"]), JSON), st.booleans())
def test_any_fields_are_accepted_or_refused(fields: dict[str, Any], typed: bool) -> None:
    for kind in (EditVideo, CreateImage):
        try:
            validated(kind, Body({"prompt": "a", **fields}, typed=typed))
        except RequestError as error:
            assert error.field


def test_the_body_schema_has_no_references() -> None:
    for kind in (CreateVideo, EditVideo, CreateImage):
        schema = inlined(kind, video="a film")
        assert "$ref" not in str(schema)
        assert schema["additionalProperties"] is False
        assert schema["properties"]["video"]["format"] == "binary"
